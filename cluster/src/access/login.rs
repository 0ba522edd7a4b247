//! Logins of operators in a browser: a password, and sessions in this process's memory. The cookie is out of
//! scripts' reach and never comes with another site's request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderValue, header};
use tokio::sync::Semaphore;

use super::password::{Password, PasswordError};
use super::tries::Tries;
use crate::watched::Reread;

const COOKIE: &str = "sluicegate_session";
/// How long a session lasts.
const SESSION: Duration = Duration::from_secs(12 * 3_600);
/// Sessions at once. The oldest makes room.
const SESSIONS_MAX: usize = 256;
/// Passwords checked at once: each takes a core, and 19 MiB.
const CHECKS: usize = 1;

/// Why somebody is not logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefusal {
    /// The password is wrong.
    #[error("that is not the password")]
    Wrong,
    /// Too many were.
    #[error("too many tries: wait a minute")]
    TooMany,
}

/// The door that a password opens.
pub struct Login {
    file: PathBuf,
    password: ArcSwap<Password>,
    state: Mutex<State>,
    checks: Semaphore,
}

#[derive(Default)]
struct State {
    tries: Tries,
    sessions: HashMap<String, Instant>,
}

impl Login {
    /// By the password in `file`. With it the password itself, when it was made just now.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub fn open(file: &Path) -> Result<(Arc<Self>, Option<String>), PasswordError> {
        let (password, told) = Password::open(file)?;
        let login = Self {
            file: file.to_owned(),
            password: ArcSwap::from_pointee(password),
            state: Mutex::default(),
            checks: Semaphore::new(CHECKS),
        };
        Ok((Arc::new(login), told))
    }

    /// Logs in from an address. Returns the value of `Set-Cookie`.
    ///
    /// # Errors
    /// [`LoginRefusal`].
    pub async fn log_in(
        self: &Arc<Self>,
        from: IpAddr,
        password: String,
        secure: bool,
        now: Instant,
    ) -> Result<HeaderValue, LoginRefusal> {
        if !self.state().tries.take(from, now) {
            return Err(LoginRefusal::TooMany);
        }
        let _permit = self.checks.acquire().await.map_err(|_| LoginRefusal::TooMany)?;
        let kept = self.password.load_full();
        let right = tokio::task::spawn_blocking(move || kept.is(&password)).await;
        if !right.unwrap_or(false) {
            return Err(LoginRefusal::Wrong);
        }
        let mut state = self.state();
        state.tries.succeeded(from);
        let id = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        state.begin(id.clone(), now);
        Ok(cookie(&id, SESSION, secure))
    }

    /// Whether a request comes from a session that lasts at `now`.
    #[must_use]
    pub fn is_logged_in(&self, headers: &HeaderMap, now: Instant) -> bool {
        let Some(id) = session_of(headers) else { return false };
        self.state().sessions.get(id).is_some_and(|ends| now < *ends)
    }

    /// Ends the session that a request comes from. Returns the value of `Set-Cookie`.
    #[must_use]
    pub fn log_out(&self, headers: &HeaderMap) -> HeaderValue {
        if let Some(id) = session_of(headers) {
            self.state().sessions.remove(id);
        }
        cookie("", Duration::ZERO, false)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reread for Login {
    fn what(&self) -> &'static str {
        "operator_password"
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.file.clone()]
    }

    /// Whoever logged in by another password than the one that is in force now logs in again.
    fn reread(&self) -> Result<(), String> {
        if let Some(other) = self.password.load().changed(&self.file).map_err(|why| why.to_string())? {
            self.password.store(Arc::new(other));
            self.state().sessions.clear();
        }
        Ok(())
    }
}

impl State {
    fn begin(&mut self, id: String, now: Instant) {
        self.sessions.retain(|_, ends| now < *ends);
        while self.sessions.len() >= SESSIONS_MAX {
            let oldest = self.sessions.iter().min_by_key(|(_, ends)| **ends).map(|(id, _)| id.clone());
            if let Some(id) = oldest {
                self.sessions.remove(&id);
            }
        }
        self.sessions.insert(id, now.checked_add(SESSION).unwrap_or(now));
    }
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, id)| id)
}

fn cookie(id: &str, life: Duration, secure: bool) -> HeaderValue {
    let (life_s, secure) = (life.as_secs(), if secure { "; Secure" } else { "" });
    let text = format!("{COOKIE}={id}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn asks(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        HeaderMap::from_iter([(header::COOKIE, format!("a=b; {pair}").parse().unwrap())])
    }

    #[tokio::test]
    async fn a_session_begins_with_the_password_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (login, told) = Login::open(&folder.path().join("p")).unwrap();
        let (from, now) = ("192.0.2.1".parse().unwrap(), clock::now());
        let wrong = login.log_in(from, "wrong".to_owned(), false, now).await;
        assert_eq!(wrong, Err(LoginRefusal::Wrong));
        let cookie = login.log_in(from, told.unwrap(), true, now).await.unwrap();
        let text = cookie.to_str().unwrap();
        assert!(text.contains("HttpOnly; SameSite=Strict; Secure"), "{text}");
        assert!(login.is_logged_in(&asks(&cookie), now));
        assert!(!login.is_logged_in(&asks(&cookie), now + SESSION));
        assert!(!login.is_logged_in(&HeaderMap::new(), now));
        let _ = login.log_out(&asks(&cookie));
        assert!(!login.is_logged_in(&asks(&cookie), now));
    }

    #[tokio::test]
    async fn another_password_ends_what_the_earlier_one_began() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p");
        std::fs::write(&file, "the first one").unwrap();
        let (login, _) = Login::open(&file).unwrap();
        let (from, now) = ("192.0.2.1".parse().unwrap(), clock::now());
        let cookie = login.log_in(from, "the first one".to_owned(), true, now).await.unwrap();
        login.reread().unwrap();
        assert!(login.is_logged_in(&asks(&cookie), now), "it is the same");
        std::fs::write(&file, "short").unwrap();
        assert!(login.reread().is_err());
        assert!(login.is_logged_in(&asks(&cookie), now));
        std::fs::write(&file, "the second one").unwrap();
        login.reread().unwrap();
        assert!(!login.is_logged_in(&asks(&cookie), now));
        let old = login.log_in(from, "the first one".to_owned(), true, now).await;
        assert_eq!(old, Err(LoginRefusal::Wrong));
        assert!(login.log_in(from, "the second one".to_owned(), true, now).await.is_ok());
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_goes_first() {
        let (mut state, now) = (State::default(), clock::now());
        for n in 0..SESSIONS_MAX + 10 {
            state.begin(n.to_string(), now + Duration::from_millis(n as u64));
        }
        assert_eq!(state.sessions.len(), SESSIONS_MAX);
        assert!(!state.sessions.contains_key("9") && state.sessions.contains_key("10"));
    }
}
