//! One HTTP request for the rest of a file, and what its answer means.

use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

/// A server that is silent for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends requests; follows redirects, and takes proxies from the environment.
pub struct Client(Agent);

/// Where a part of a file came from, kept beside it: the server compares, so that a file
/// that has changed meanwhile is not glued to an old beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Address asked.
    pub url: String,
    /// The server's `ETag`, if it is a strong one, or else its `Last-Modified`.
    pub version: Option<String>,
}

/// The answer to a request for what comes after the first `from` bytes.
pub enum Answer {
    /// The bytes from there on, or from the beginning if the server gives no parts or has another
    /// version by now.
    Bytes { from: u64, origin: Origin, body: Box<dyn Read> },
    /// There is nothing after those bytes.
    NothingThere,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Another try may help.
    Passing(String),
    /// It will not.
    Final(String),
}

impl Client {
    pub fn new() -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .accept_encoding("identity")
            .timeout_connect(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .timeout_per_write(Some(PATIENCE))
            .build();
        Self(config.into())
    }

    /// Asks for a file of `bytes` bytes, of which `have` are there, coming from `origin`.
    pub fn ask(
        &self,
        url: &str,
        bytes: u64,
        have: u64,
        origin: &Origin,
    ) -> Result<Answer, Failure> {
        let mut request = self.0.get(url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
            if let Some(version) = origin.version.as_ref().filter(|_| origin.url == url) {
                request = request.header("If-Range", version);
            }
        }
        let response = request.call().map_err(|error| failure(&error))?;
        let from = match response.status() {
            StatusCode::OK => whole(response.headers(), bytes)?,
            StatusCode::PARTIAL_CONTENT if have > 0 => rest(response.headers(), bytes, have)?,
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(Answer::NothingThere),
            status => return Err(refused(status)),
        };
        let origin = Origin { url: url.to_owned(), version: version(&response) };
        Ok(Answer::Bytes { from, origin, body: Box::new(response.into_body().into_reader()) })
    }
}

/// Checks the headers of a whole file, which begins at 0.
fn whole(headers: &HeaderMap, bytes: u64) -> Result<u64, Failure> {
    match text(headers, CONTENT_LENGTH.as_str()).map(str::parse::<u64>) {
        Some(Ok(found)) if found != bytes => Err(other_size(found, bytes)),
        _ => Ok(0),
    }
}

/// Checks the headers of the rest of a file; gives where it begins.
fn rest(headers: &HeaderMap, bytes: u64, have: u64) -> Result<u64, Failure> {
    let range = text(headers, CONTENT_RANGE.as_str()).unwrap_or_default();
    let parsed = range.strip_prefix("bytes ").and_then(|range| {
        let (range, total) = range.split_once('/')?;
        let from = range.split_once('-')?.0.parse::<u64>().ok()?;
        Some((from, total.parse::<u64>().ok()))
    });
    match parsed {
        Some((_, Some(total))) if total != bytes => Err(other_size(total, bytes)),
        Some((from, _)) if from == have => Ok(have),
        _ => Err(Failure::Final(format!("was asked for bytes {have}-, and gave {range:?}"))),
    }
}

fn other_size(found: u64, expected: u64) -> Failure {
    Failure::Final(format!("offers {found} bytes, but the manifest says {expected}"))
}

fn refused(status: StatusCode) -> Failure {
    let text = format!("answered {status}");
    let passing = status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS;
    if passing { Failure::Passing(text) } else { Failure::Final(text) }
}

fn failure(error: &ureq::Error) -> Failure {
    use ureq::Error as E;
    let passing = matches!(error, E::Io(_) | E::Timeout(_) | E::ConnectionFailed | E::Protocol(_));
    let text = error.to_string();
    if passing { Failure::Passing(text) } else { Failure::Final(text) }
}

/// What tells this version of the file from others. A weak `ETag` does not tell bytes apart.
fn version(response: &Response<Body>) -> Option<String> {
    let strong = text(response.headers(), ETAG.as_str()).filter(|tag| tag.starts_with('"'));
    strong.or_else(|| text(response.headers(), LAST_MODIFIED.as_str())).map(str::to_owned)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
