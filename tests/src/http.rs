//! HTTP without TLS, as a test wants it: asked, answered, everything read.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::runtime::Runtime;

/// For an answer to be complete.
const ANSWER: Duration = Duration::from_secs(10);

/// Where what a test does beside itself runs.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
});

static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER);
    // A redirection is an answer like any other.
    client.redirect(reqwest::redirect::Policy::none()).build().expect("an HTTP client")
});

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// All of the body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header; empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether it is a problem body (RFC 9457) of its own status.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        let body: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        self.header("content-type") == "application/problem+json"
            && body.is_some_and(|b| b["status"] == self.status && b["title"].is_string())
    }
}

/// Asks for `url`. An error is that of a connection: every status is an answer.
///
/// # Errors
/// When there is no complete answer.
pub fn try_get(url: &str) -> reqwest::Result<Answer> {
    RUNTIME.block_on(fetch(url.to_owned()))
}

/// Asks for `url`.
///
/// # Panics
/// When there is no complete answer.
#[track_caller]
#[must_use]
pub fn get(url: &str) -> Answer {
    try_get(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Asks for `url` with a bearer's token (RFC 6750).
///
/// # Panics
/// When there is no complete answer.
#[track_caller]
#[must_use]
pub fn get_as_bearer(url: &str, token: &str) -> Answer {
    let asked = RUNTIME.block_on(async { read(CLIENT.get(url).bearer_auth(token).send().await?).await });
    asked.unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Asks `url` by another method, with headers and a body.
///
/// # Panics
/// When there is no complete answer, or a header is none.
#[track_caller]
#[must_use]
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
    let asked =
        headers.iter().fold(CLIENT.request(method, url), |asked, (name, value)| asked.header(*name, *value));
    let answered = RUNTIME.block_on(async { read(asked.body(body.to_owned()).send().await?).await });
    answered.unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Asks for `url` so many times at once.
///
/// # Panics
/// When one of them is not answered.
#[must_use]
pub fn get_at_once(url: &str, times: usize) -> Vec<Answer> {
    RUNTIME.block_on(async {
        let asked: Vec<_> = (0..times).map(|_| tokio::spawn(fetch(url.to_owned()))).collect();
        let mut answers = Vec::with_capacity(times);
        for answer in asked {
            let answer = answer.await.expect("a request's task");
            answers.push(answer.unwrap_or_else(|error| panic!("{url}: {error}")));
        }
        answers
    })
}

/// Sends `method` to `url`, with a JSON body if there is one.
///
/// # Panics
/// When there is no complete answer.
#[track_caller]
#[must_use]
pub fn send(method: &str, url: &str, body: Option<&serde_json::Value>) -> Answer {
    let method = method.parse().expect("a method");
    let mut request = CLIENT.request(method, url);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answered = RUNTIME.block_on(async { read(request.send().await?).await });
    answered.unwrap_or_else(|error| panic!("{url}: {error}"))
}

async fn fetch(url: String) -> reqwest::Result<Answer> {
    read(CLIENT.get(url).send().await?).await
}

async fn read(response: reqwest::Response) -> reqwest::Result<Answer> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, body: response.bytes().await? })
}
