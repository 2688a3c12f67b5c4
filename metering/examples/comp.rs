use slackline_metering::{CostTable, Metering, Mode};
use std::time::Instant;
use wasmtime::{Config, Engine, Module};
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let n: usize = args[1].parse()?;
    let wasm = std::fs::read(&args[3])?;
    let mk = |m: &str| -> Result<Engine, Box<dyn std::error::Error>> {
        Ok(match m {
            "none" => Engine::new(Config::new().wasm_backtrace_max_frames(None))?,
            m => Metering::new(Config::new(), m.parse::<Mode>()?, &CostTable::v1())?
                .engine()
                .clone(),
        })
    };
    let modes: Vec<&str> = args[2].split(',').collect();
    let engines: Vec<Engine> = modes.iter().map(|m| mk(m)).collect::<Result<_, _>>()?;
    let mut times = vec![vec![]; modes.len()];
    for _ in 0..n {
        for (i, e) in engines.iter().enumerate() {
            let t = Instant::now();
            Module::new(e, &wasm)?;
            times[i].push(t.elapsed().as_secs_f64());
        }
    }
    for (m, t) in modes.iter().zip(&mut times) {
        t.sort_by(f64::total_cmp);
        println!("{m}: {:.2} ms min {:.2}", t[t.len() / 2] * 1e3, t[0] * 1e3);
    }
    Ok(())
}
