//! How far a download is: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

/// A line each time another of these parts of a file is there, where no terminal is.
const LINES: u64 = 10;

/// The progress of one file.
pub struct Meter {
    name: String,
    bytes: u64,
    bar: ProgressBar,
    /// Tenths that have been told; `None` to tell nothing.
    told: Option<u64>,
}

/// Bytes as people read them: `170.05 MB`.
pub fn size(bytes: u64) -> String {
    DecimalBytes(bytes).to_string()
}

impl Meter {
    /// For a file of so many bytes; silent if `quiet`.
    pub fn new(name: &str, bytes: u64, quiet: bool) -> Self {
        let terminal = !quiet && std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(bytes) } else { ProgressBar::hidden() };
        let style = "{prefix}  {bar:24} {percent:>3} %  {decimal_bytes} of {decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(name.to_owned());
        let told = (!quiet && !terminal).then_some(0);
        Self { name: name.to_owned(), bytes, bar, told }
    }

    /// Says something.
    pub fn say(&self, text: &str) {
        if !self.bar.is_hidden() {
            self.bar.println(format!("{}: {text}", self.name));
        } else if self.told.is_some() {
            eprintln!("{}: {text}", self.name);
        }
    }

    /// So many bytes are there that came earlier, and do not count for the rate.
    pub fn start(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
        self.bar.reset_eta();
        self.told = self.told.map(|_| self.tenths(bytes));
    }

    /// So many bytes are there.
    pub fn at(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
        let tenths = self.tenths(bytes);
        if self.told.is_some_and(|told| told < tenths) {
            self.told = Some(tenths);
            let percent = 100 / LINES * tenths;
            self.say(&format!("{percent:>3} %, {} of {}", size(bytes), size(self.bytes)));
        }
    }

    /// Clears the bar away.
    pub fn done(&self) {
        self.bar.finish_and_clear();
    }

    fn tenths(&self, bytes: u64) -> u64 {
        LINES * bytes.min(self.bytes) / self.bytes.max(1)
    }
}
