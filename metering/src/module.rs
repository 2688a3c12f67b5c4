//! Modules whose executions can be interrupted.

use crate::code_table::{self, Registration};
use crate::{Metering, ModuleId};
use std::fmt;
use std::ops::Deref;
use wasmtime::Module;

/// Why wasm could not be compiled.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct CompileError(#[from] wasmtime::Error);

impl CompileError {
    /// Whether the machine failed (no memory for the code), not the compiler: another try may succeed.
    pub fn is_of_the_machine(&self) -> bool {
        self.0.is::<wasmtime::error::OutOfMemory>()
            || self.0.chain().any(|cause| cause.is::<std::io::Error>())
    }
}

/// A compiled module, known to the checker for as long as it lives.
///
/// Keep it while an instance of it executes: without it the checker takes the code for foreign, and an
/// execution that is out of fuel goes on until it leaves wasm.
pub struct MeteredModule {
    // Before the module, so that the code is still mapped while it is registered.
    registration: Option<Registration>,
    module: Module,
}

impl MeteredModule {
    /// Compiles `wasm`, in binary or text form.
    ///
    /// # Errors
    ///
    /// If `wasm` is invalid, exceeds what the engine supports, or its code is refused by the pass.
    pub fn new(metering: &Metering, wasm: impl AsRef<[u8]>) -> Result<MeteredModule, CompileError> {
        let module = Module::new(metering.engine(), wasm).map_err(CompileError)?;
        Ok(MeteredModule::from_module(metering, module))
    }

    /// Registers a module that was compiled or deserialised with `metering`'s engine.
    ///
    /// # Panics
    ///
    /// If it belongs to another engine, whose code may not count where the checker looks.
    pub fn from_module(metering: &Metering, module: Module) -> MeteredModule {
        assert!(
            wasmtime::Engine::same(metering.engine(), module.engine()),
            "the module belongs to another engine"
        );
        let registration = metering
            .mode()
            .pins_counter()
            .then(|| code_table::register(&module));
        MeteredModule {
            registration,
            module,
        }
    }

    /// What samples of a [`crate::Profiler`] call it, unique in the process; `None` where there are none: for a module without
    /// functions, and in [`crate::Mode::Exact`].
    pub fn id(&self) -> Option<ModuleId> {
        self.registration.as_ref()?.id().map(ModuleId)
    }
}

impl Deref for MeteredModule {
    type Target = Module;
    fn deref(&self) -> &Module {
        &self.module
    }
}

impl fmt::Debug for MeteredModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeteredModule")
            .field("name", &self.module.name())
            .finish_non_exhaustive()
    }
}
