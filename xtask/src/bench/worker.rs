//! A process that runs training steps when it is told to.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

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

/// What a worker says when it ends, where known: the most memory it has held, and what became of its steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peak {
    /// Of the process.
    pub peak_rss_bytes: Option<u64>,
    /// Of the GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_device_bytes: Option<u64>,
    /// Convolutions that cuDNN refused, which makes them slow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// Steps that were replayed as CUDA graphs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<u64>,
}

/// A running worker; killed when dropped.
pub struct Worker {
    what: String,
    child: Child,
    input: ChildStdin,
    /// Its lines.
    output: Receiver<std::io::Result<String>>,
    /// How long an answer may take.
    patience: Option<Duration>,
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
        let (told, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().try_for_each(|line| told.send(line))
        });
        let mut worker =
            Self { what: what.to_owned(), child, input, output: lines, patience: None };
        let ready = worker.answer()?;
        Ok((worker, ready))
    }

    /// From here on, an answer that takes longer is an error.
    pub fn limit(&mut self, patience: Duration) {
        self.patience = Some(patience);
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
        let what = &self.what;
        let line = match self.patience {
            Some(patience) => self.output.recv_timeout(patience),
            None => self.output.recv().map_err(RecvTimeoutError::from),
        };
        let line = match line {
            Ok(line) => line.with_context(|| what.clone())?,
            Err(RecvTimeoutError::Timeout) => bail!("{what} gave no answer in time"),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("{what} ended without an answer; its own message is above")
            }
        };
        serde_json::from_str(&line).with_context(|| format!("{what} said {line:?}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself; either way it must not stay behind.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn start(does: &str) -> Result<Worker> {
        let mut command = Command::new("sh");
        command.args(["-c", does]);
        Ok(Worker::start("a shell", command)?.0)
    }

    #[test]
    fn a_worker_answers_ends_or_is_given_up() {
        let mut worker =
            start(r#"echo '{}'; read _; echo '{"seconds": [1.5]}'; sleep 600"#).unwrap();
        assert_eq!(worker.steps(1).unwrap(), [1.5]);
        worker.limit(Duration::from_millis(50));
        let error = worker.steps(1).unwrap_err().to_string();
        assert!(error.contains("a shell gave no answer in time"), "{error}");
        let error = |does| format!("{:#}", start(does).err().unwrap());
        assert!(error("exit 1").contains("ended without an answer"));
        assert!(error("echo hello").contains("said \"hello\""));
    }
}
