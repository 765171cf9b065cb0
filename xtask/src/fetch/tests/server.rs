//! A web server on loopback that does what a test tells it to, however wrong.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request: its path and headers, names in lower case.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first byte asked for, if not all are.
    pub fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What goes over the wire before the connection is closed.
pub type Bytes = Vec<u8>;

pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` gets the number of the request, from 0, and the request.
    pub fn new(answer: impl Fn(usize, &Request) -> Bytes + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (seen, stop) = (seen.clone(), stop.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    serve(stream.unwrap(), &seen, &answer);
                }
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _wake = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &impl Fn(usize, &Request) -> Bytes,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    });
    let request = Request { path, headers: headers.collect() };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    // The client may hang up in the middle; that is what some tests are about.
    let _sent = (&stream).write_all(&answer(number, &request));
}

/// An answer with this status line and these headers.
pub fn reply(status: &str, headers: &str, body: &[u8]) -> Bytes {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The whole content.
pub fn whole(content: &[u8]) -> Bytes {
    let headers = format!("Content-Length: {}\r\nETag: \"v1\"\r\n", content.len());
    reply("200 OK", &headers, content)
}

/// What was asked for, as a good server gives it.
pub fn good(content: &[u8], request: &Request) -> Bytes {
    let current = request.header("if-range").is_none_or(|version| version == "\"v1\"");
    let Some(from) = request.from().filter(|_| current) else { return whole(content) };
    let (rest, total) = (&content[from..], content.len());
    let headers = format!(
        "Content-Length: {}\r\nContent-Range: bytes {from}-{}/{total}\r\nETag: \"v1\"\r\n",
        rest.len(),
        total - 1
    );
    reply("206 Partial Content", &headers, rest)
}

/// An answer that stops before its last `missing` bytes.
pub fn cut(mut answer: Bytes, missing: usize) -> Bytes {
    answer.truncate(answer.len() - missing);
    answer
}
