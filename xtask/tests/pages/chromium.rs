//! Headless Chromium by its DevTools protocol, over a pair of pipes.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// Chromium reads commands from descriptor 3 and writes answers to 4: ours are its standard ones.
const START: &str = r#"exec "$@" 3<&0 4>&1 0</dev/null 1>&2 2>/dev/null"#;

const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// A browser; ended when dropped.
pub struct Chromium {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    events: VecDeque<Value>,
    commands: u64,
}

/// What a page did when it was opened.
pub struct Opened {
    /// Errors on the console, and exceptions.
    pub errors: Vec<String>,
    /// Everything that was asked for, the page itself first.
    pub requests: Vec<String>,
    /// Value of a script run in the page once it was loaded.
    pub found: Value,
    /// The whole page as a picture.
    pub screenshot: image::RgbImage,
}

impl Chromium {
    /// Starts `chromium` with a profile of its own.
    pub fn start(profile: &Path) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", START, "sh", "chromium"])
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, input, output, events: VecDeque::new(), commands: 0 }
    }

    /// Opens a file in a window `width` pixels wide, and runs a script in it.
    pub fn open(&mut self, file: &Path, width: u32, script: &str) -> Opened {
        let target = self.call(None, "Target.createTarget", &json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        let session = self.call(None, "Target.attachToTarget", &target)["sessionId"].clone();
        let session = session.as_str();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(session, &format!("{domain}.enable"), &json!({}));
        }
        let size =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        self.call(session, "Emulation.setDeviceMetricsOverride", &size);
        self.events.clear();
        let url = format!("file://{}", file.display());
        self.call(session, "Page.navigate", &json!({ "url": url }));
        let mut events: Vec<Value> = self.events.drain(..).collect();
        while !events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            events.push(self.read());
        }
        // Pictures in the page are decoded by now or never.
        let decoded = "Promise.allSettled([...document.images].map(i => i.decode()))";
        let script = format!("{decoded}.then(() => ({script}))");
        let script = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let answer = self.call(session, "Runtime.evaluate", &script);
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        let picture = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.call(session, "Page.captureScreenshot", &picture);
        let picture = BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture")).unwrap();
        events.extend(self.events.drain(..));
        let text = |event: &Value| event["params"].to_string();
        let errors = events.iter().filter(|event| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        });
        let sent = events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        let url = |event: &Value| event["params"]["request"]["url"].as_str().map(str::to_owned);
        Opened {
            errors: errors.map(text).collect(),
            requests: sent.filter_map(url).collect(),
            found: answer["result"]["value"].clone(),
            screenshot: image::load_from_memory(&picture).unwrap().to_rgb8(),
        }
    }

    /// Sends a command and waits for its answer; events that come meanwhile are kept.
    fn call(&mut self, session: Option<&str>, method: &str, params: &Value) -> Value {
        self.commands += 1;
        let mut command = json!({ "id": self.commands, "method": method, "params": params });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        write!(self.input, "{command}\0").and_then(|()| self.input.flush()).expect("it listens");
        loop {
            let message = self.read();
            if message["id"] == self.commands {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push_back(message);
        }
    }

    fn read(&mut self) -> Value {
        let mut message = Vec::new();
        self.output.read_until(0, &mut message).expect("it answers");
        assert_eq!(message.pop(), Some(0), "chromium has ended; is it installed?");
        serde_json::from_slice(&message).expect("JSON")
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its helpers end with it.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
