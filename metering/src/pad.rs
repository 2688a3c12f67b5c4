//! The landing pad: where an asynchronous check sends a thread that is out of fuel.
//!
//! It is one trapping instruction, with trap code `OutOfFuel`, inside a wasmtime module; a thread that
//! executes it raises an ordinary wasm trap, and wasmtime unwinds it to whatever entry trampoline it
//! came through, looking at nothing but what that trampoline has stored. The module is an empty function:
//! its entry trampoline contains the instruction, being checked like all others.

use crate::{CostTable, MeteringError, Mode, config};
use std::sync::OnceLock;
use wasmtime::{Config, Engine, Module};
use wasmtime_environ::obj::ELF_WASMTIME_TRAPS;
use wasmtime_environ::object::{self, Object, ObjectSection};
use wasmtime_environ::{CompiledTrap, Trap, iterate_traps};

struct Pad {
    /// Keeps the code mapped for as long as the process lives: a handler may have just read the address.
    _module: Module,
    address: usize,
}

/// Address of the instruction. One serves all engines of a process.
pub(crate) fn address() -> Result<usize, MeteringError> {
    static PAD: OnceLock<Pad> = OnceLock::new();
    if let Some(pad) = PAD.get() {
        return Ok(pad.address);
    }
    let pad = build()?;
    Ok(PAD.get_or_init(|| pad).address)
}

fn build() -> Result<Pad, MeteringError> {
    let mut config = Config::new();
    config::configure(&mut config, Mode::Slacked, &CostTable::v1())
        .map_err(MeteringError::Engine)?;
    let engine = Engine::new(&config).map_err(MeteringError::Engine)?;
    let module =
        Module::new(&engine, br#"(module (func (export "")))"#).map_err(MeteringError::Engine)?;
    let offset = out_of_fuel_trap(&module)?;
    let address = module.text().as_ptr() as usize + offset;
    Ok(Pad {
        _module: module,
        address,
    })
}

/// Offset in the text of the instruction that raises `OutOfFuel`.
fn out_of_fuel_trap(module: &Module) -> Result<usize, MeteringError> {
    let image = module.serialize().map_err(MeteringError::Engine)?;
    let elf = object::File::parse(&image[..])
        .map_err(|_| MeteringError::Pad("the artifact is no ELF file"))?;
    let traps = elf
        .section_by_name(ELF_WASMTIME_TRAPS)
        .and_then(|section| section.data().ok())
        .ok_or(MeteringError::Pad("the artifact has no trap section"))?;
    let offset = iterate_traps(traps)
        .ok_or(MeteringError::Pad("the trap section is malformed"))?
        .find(|(_, trap)| *trap == CompiledTrap::Normal(Trap::OutOfFuel))
        .map(|(offset, _)| offset as usize)
        .ok_or(MeteringError::Pad("no trampoline checks the counter"))?;
    if offset < module.text().len() {
        Ok(offset)
    } else {
        Err(MeteringError::Pad("the trap is outside the code"))
    }
}
