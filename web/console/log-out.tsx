/** Ends the session of whoever logged in; the login page is next. */

import { useState } from "preact/hooks";
import { logOut } from "./api";

export function LogOut() {
  const [words, setWords] = useState("Log out");
  const click = async (): Promise<void> => {
    if (await logOut()) return location.reload();
    setWords("Not logged out: try again");
  };
  return (
    <button type="button" class="order" onClick={() => void click()}>
      {words}
    </button>
  );
}
