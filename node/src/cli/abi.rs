//! `slackline abi`.

use super::output::{Output, print, printable};
use super::remote::Remote;
use super::transact::read;
use super::words;
use anyhow::{Context, bail};
use clap::Args;
use slackline_abi::{Contract, Fields, Type};
use slackline_executor::ProtocolParams;
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Abi {
    /// A contract's address, or a wasm file.
    #[arg(value_name = "CONTRACT|FILE")]
    what: String,
}

impl Abi {
    pub(crate) async fn run(
        self,
        connect: impl FnOnce() -> anyhow::Result<Remote>,
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let path = Path::new(&self.what);
        let description = if path.is_file() {
            let limit = ProtocolParams::v1().limits.code.code_bytes as u64;
            words::of_code(&read(path, limit)?)
        } else {
            let remote = connect()?;
            let names = remote.names().await?;
            let contract = names
                .resolve(&self.what)
                .with_context(|| format!("no such file, and no contract: {:?}", self.what))?;
            words::of_contract(&remote, &contract).await?
        };
        match description {
            Ok(contract) if output.is_json() => {
                print(&(serde_json::to_string_pretty(&contract)? + "\n"))?;
            }
            Ok(contract) => print(&describe(&contract))?,
            Err(reason) => bail!("{}: {}", self.what, printable(&reason)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// For people.
pub(super) fn describe(contract: &Contract) -> String {
    let mut text = String::new();
    let doc = |doc: &str, indent: &str| -> String {
        let lines = doc.lines();
        lines
            .map(|line| format!("{indent}{}\n", printable(line.trim())))
            .collect()
    };
    text += &format!("{}\n", printable(&contract.name));
    text += &doc(&contract.doc, "    ");
    text += "\nmethods\n";
    for method in &contract.methods {
        text += &format!("  {}", printable(&method.to_string()));
        let hook = matches!(method.name.as_str(), "init" | "upgrade");
        for (is, what) in [
            (hook, "not to be called"),
            (method.view, "view"),
            (method.payable, "payable"),
            (method.reentrant, "reentrant"),
        ] {
            if is {
                text += &format!("  [{what}]");
            }
        }
        text += "\n";
        text += &doc(&method.doc, "      ");
    }
    if !contract.events.is_empty() {
        text += "\nevents\n";
    }
    for event in &contract.events {
        let fields = event.fields.iter().map(|field| {
            let topic = if field.topic { " (topic)" } else { "" };
            format!("{}: {}{topic}", field.name, field.schema)
        });
        let fields: Vec<_> = fields.collect();
        let line = format!("{} {{ {} }}", event.name, fields.join(", "));
        text += &format!("  {}\n", printable(&line));
        text += &doc(&event.doc, "      ");
    }
    if !contract.types.is_empty() {
        text += "\ntypes\n";
    }
    for (name, ty) in &contract.types {
        match ty {
            Type::Struct(of) => {
                text += &format!("  {}\n", printable(&format!("{name}{}", fields(of))));
            }
            Type::Enum { variants } => {
                text += &format!("  {}, one of\n", printable(name));
                for variant in variants {
                    let line = format!("{}{}", variant.name, fields(&variant.fields));
                    text += &format!("    {}\n", printable(&line));
                    text += &doc(&variant.doc, "        ");
                }
            }
        }
    }
    text
}

fn fields(fields: &Fields) -> String {
    match fields {
        Fields::Unit => String::new(),
        Fields::Named(fields) => {
            let fields = fields.iter();
            let fields: Vec<_> = fields
                .map(|field| format!("{}: {}", field.name, field.schema))
                .collect();
            format!(" {{ {} }}", fields.join(", "))
        }
        Fields::Tuple(of) => {
            let of: Vec<_> = of.iter().map(ToString::to_string).collect();
            format!("({})", of.join(", "))
        }
    }
}
