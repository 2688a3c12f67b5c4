//! The binary as a process.

use serde_json::Value;
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

/// A running `slackline dev`; killed when dropped.
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
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--print-json"])
            .env("SLACKLINE_LOG", "warn");
        if let Some(dir) = data_dir {
            command.arg("--data-dir").arg(dir);
        }
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

    pub(crate) fn url(&self) -> String {
        self.about["rpc"].as_str().unwrap().to_owned()
    }

    /// SIGKILL: nothing of the process runs any more.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends `signal`, and waits for the end.
    pub(crate) fn signal(mut self, signal: &str) -> ExitStatus {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
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
        // Both fail if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
