package sluicegate;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import javax.crypto.Mac;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import javax.crypto.spec.SecretKeySpec;

/** The server's side of one login by SCRAM-SHA-256 (RFC 5802, RFC 7677), as far as ASCII passwords need it. */
final class Scram {

    /** The login is not the one that is wanted, or no SCRAM at all. */
    static final class Refused extends Exception {
        private static final long serialVersionUID = 1L;
    }

    private static final int ITERATIONS = 4_096;
    private static final int KEY_BITS = 256;
    private static final int SALT_BYTES = 16;
    private static final int NONCE_BYTES = 18;
    private static final SecureRandom RANDOM = new SecureRandom();

    private final String user;
    private final byte[] saltedPassword;
    private final String salt;
    private String messages;
    private String nonce;
    private boolean complete;

    Scram(String user, String password) throws GeneralSecurityException {
        byte[] bytes = random(SALT_BYTES);
        PBEKeySpec spec = new PBEKeySpec(password.toCharArray(), bytes, ITERATIONS, KEY_BITS);
        this.user = user;
        this.saltedPassword = SecretKeyFactory.getInstance("PBKDF2WithHmacSHA256").generateSecret(spec).getEncoded();
        this.salt = base64(bytes);
    }

    /** Whether the client has proved that it knows the password. */
    boolean isComplete() {
        return complete;
    }

    /** Answers {@code client-first-message}. */
    String first(String message) throws Refused {
        if (!message.startsWith("n,,")) {
            throw new Refused();
        }
        String bare = message.substring("n,,".length());
        Map<String, String> attributes = attributes(bare);
        if (!user.equals(attributes.get("n")) || attributes.get("r") == null) {
            throw new Refused();
        }
        nonce = attributes.get("r") + base64(random(NONCE_BYTES));
        String answer = "r=" + nonce + ",s=" + salt + ",i=" + ITERATIONS;
        messages = bare + "," + answer;
        return answer;
    }

    /** Answers {@code client-final-message}. */
    String last(String message) throws Refused, GeneralSecurityException {
        int proofAt = message.lastIndexOf(",p=");
        if (messages == null || proofAt < 0 || !nonce.equals(attributes(message).get("r"))) {
            throw new Refused();
        }
        byte[] signed = (messages + "," + message.substring(0, proofAt)).getBytes(StandardCharsets.UTF_8);
        byte[] storedKey = sha256(hmac(saltedPassword, "Client Key".getBytes(StandardCharsets.UTF_8)));
        byte[] clientKey = Base64.getDecoder().decode(message.substring(proofAt + ",p=".length()));
        byte[] signature = hmac(storedKey, signed);
        for (int i = 0; i < clientKey.length && i < signature.length; i++) {
            clientKey[i] ^= signature[i];
        }
        if (!MessageDigest.isEqual(sha256(clientKey), storedKey)) {
            throw new Refused();
        }
        complete = true;
        byte[] serverKey = hmac(saltedPassword, "Server Key".getBytes(StandardCharsets.UTF_8));
        return "v=" + base64(hmac(serverKey, signed));
    }

    private static Map<String, String> attributes(String message) {
        Map<String, String> attributes = new HashMap<>();
        for (String part : message.split(",")) {
            if (part.length() > 1 && part.charAt(1) == '=') {
                attributes.put(part.substring(0, 1), part.substring(2));
            }
        }
        return attributes;
    }

    private static byte[] hmac(byte[] key, byte[] text) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(text);
    }

    private static byte[] sha256(byte[] text) throws GeneralSecurityException {
        return MessageDigest.getInstance("SHA-256").digest(text);
    }

    private static byte[] random(int length) {
        byte[] bytes = new byte[length];
        RANDOM.nextBytes(bytes);
        return bytes;
    }

    private static String base64(byte[] bytes) {
        return Base64.getEncoder().encodeToString(bytes);
    }
}
