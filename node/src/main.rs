//! The `slackline` command: see `slackline --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
