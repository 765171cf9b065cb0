//! A process that runs training steps when it is told to.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a worker says when it has built its network.
#[derive(Deserialize)]
pub struct Ready {
    /// Version of PyTorch, if it is that.
    pub torch: Option<String>,
}

#[derive(Deserialize)]
struct Steps {
    seconds: Vec<f64>,
}

/// The most memory a worker has held, where known.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Peak {
    /// Of the process.
    pub peak_rss_bytes: Option<u64>,
    /// Of the GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_device_bytes: Option<u64>,
}

/// A running worker; killed when dropped.
pub struct Worker {
    what: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts the command and waits until it is ready. `what` names it in messages.
    pub fn start(what: &str, mut command: Command) -> Result<(Self, Ready)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child =
            command.spawn().with_context(|| format!("cannot start {program} ({what})"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{what} has no pipes");
        };
        let mut worker =
            Self { what: what.to_owned(), child, input, output: BufReader::new(output) };
        let ready = worker.answer()?;
        Ok((worker, ready))
    }

    /// Runs `count` steps; the seconds of each.
    pub fn steps(&mut self, count: usize) -> Result<Vec<f64>> {
        writeln!(self.input, "step {count}")?;
        let Steps { seconds } = self.answer()?;
        Ok(seconds)
    }

    /// Ends the worker; its peak memory.
    pub fn quit(mut self) -> Result<Peak> {
        writeln!(self.input, "quit")?;
        self.answer()
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("{} ended without an answer; its own message is above", self.what);
        }
        serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.what))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself; either way it must not stay behind.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
