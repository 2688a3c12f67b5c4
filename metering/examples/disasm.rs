use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};
use slackline_metering::{CostTable, Metering, Mode};
use wasmtime::{Config, Engine, Module};
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let wasm = std::fs::read(&args[2])?;
    let engine = match args[1].as_str() {
        "none" => Engine::new(Config::new().wasm_backtrace_max_frames(None))?,
        m => Metering::new(Config::new(), m.parse::<Mode>()?, &CostTable::v1())?
            .engine()
            .clone(),
    };
    let module = Module::new(&engine, wasm)?;
    let text = module.text();
    for f in module.functions() {
        println!(
            "-- {:?} {:?} at {:#x} len {}",
            f.index, f.name, f.offset, f.len
        );
        let mut d = Decoder::with_ip(
            64,
            &text[f.offset..f.offset + f.len],
            f.offset as u64,
            DecoderOptions::NONE,
        );
        let mut fm = NasmFormatter::new();
        while d.can_decode() {
            let i = d.decode();
            let mut s = String::new();
            fm.format(&i, &mut s);
            println!(
                "{:6x}{} {}",
                i.ip(),
                if i.ip() % 32 == 0 { "*" } else { " " },
                s
            );
        }
    }
    Ok(())
}
