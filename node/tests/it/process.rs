//! The binary as a process.

use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

/// The built `slackline`.
pub(crate) fn slackline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slackline"));
    command
        .env_remove("SLACKLINE_RPC")
        .env_remove("SLACKLINE_LOG");
    command
}

/// `slackline start` of a directory, with settings that go over the file's.
pub(crate) fn validator(dir: &Path, settings: &[String]) -> Command {
    let mut command = slackline();
    command.args(["start", "--print-json", "--data-dir"]);
    command.arg(dir);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command
}

const DEV: [&str; 4] = ["dev", "--listen", "127.0.0.1:0", "--print-json"];

/// A running `slackline dev`; ended with SIGTERM when dropped.
pub(crate) struct Dev {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    /// What it printed when it was ready.
    pub(crate) about: Value,
}

impl Dev {
    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(data_dir: Option<&Path>) -> Dev {
        let mut command = slackline();
        command.args(DEV);
        if let Some(dir) = data_dir {
            command.arg("--data-dir").arg(dir);
        }
        Dev::spawn(command.env("SLACKLINE_LOG", "warn"))
    }

    /// Starts it in `dir`, where no file may become longer than `blocks` times 512 bytes: longer writes fail.
    pub(crate) fn start_on_small_disk(dir: &Path, blocks: u32) -> Dev {
        let mut command = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_slackline")])
            .args(DEV)
            .arg("--data-dir")
            .arg(dir);
        Dev::spawn(command.env("SLACKLINE_LOG", "off").stderr(Stdio::piped()))
    }

    /// Starts the node of a directory, that decides on blocks with others.
    pub(crate) fn validator(dir: &Path) -> Dev {
        Dev::validator_with(dir, &[])
    }

    /// Likewise, with settings that go over the file's.
    pub(crate) fn validator_with(dir: &Path, settings: &[String]) -> Dev {
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        Dev::spawn(validator(dir, settings).stderr(log))
    }

    pub(crate) fn spawn(command: &mut Command) -> Dev {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let about: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line:?}"));
        assert_eq!(about["ready"], true);
        Dev {
            child,
            stdout,
            about,
        }
    }

    /// Waits until it ends by itself. Its exit code, and what it said on standard error if that was piped.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said).unwrap();
        }
        (self.child.wait().unwrap().code(), said)
    }

    pub(crate) fn url(&self) -> String {
        self.about["rpc"].as_str().unwrap().to_owned()
    }

    /// SIGKILL: nothing of the process runs any more.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends `signal`.
    pub(crate) fn send(&self, signal: &str) {
        send(&self.child, signal);
    }

    /// Sends `signal`, and waits for the end.
    pub(crate) fn signal(mut self, signal: &str) -> ExitStatus {
        send(&self.child, signal);
        // Until the end: closed by the process, not by this end of the pipe.
        self.stdout.read_to_end(&mut Vec::new()).unwrap();
        self.child.wait().unwrap()
    }

    /// Runs a client command against it.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        slackline()
            .args(args)
            .env("SLACKLINE_RPC", self.url())
            .output()
            .unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Not for a process that has ended: its number may be another's by now.
        if let Ok(None) = self.child.try_wait() {
            send(&self.child, "-TERM");
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal, by its name for `kill`.
pub(crate) fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}
