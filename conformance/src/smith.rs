//! Modules of wasm-smith: anything that is valid and allowed, without loops to speak of.

use crate::Case;
use crate::choices::Choices;

/// A case from these choices; `None` if they lead to no module.
pub fn case(choices: &mut Choices<'_>) -> Option<Case> {
    // What the executor's validation lets through, and tail calls, which it does not but the pass knows.
    let config = wasm_smith::Config {
        min_types: 2,
        min_funcs: 2,
        max_funcs: 8,
        max_instructions: 200,
        export_everything: true,
        max_imports: 0,
        max_memories: 1,
        max_types: 8,
        max_globals: 4,
        max_memory32_bytes: 1 << 20,
        memory_offset_choices: wasm_smith::MemoryOffsetChoices(100, 1, 0),
        max_table_elements: 100,
        max_data_segments: 2,
        max_element_segments: 2,
        max_tables: 2,
        allow_start_export: choices.one_in(4),
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        multi_value_enabled: true,
        // Rarely: most of those modules have an externref somewhere, which is refused.
        reference_types_enabled: choices.one_in(8),
        bulk_memory_enabled: true,
        extended_const_enabled: true,
        sign_extension_ops_enabled: true,
        saturating_float_to_int_enabled: true,
        relaxed_simd_enabled: false,
        simd_enabled: choices.one_in(2),
        tail_call_enabled: choices.one_in(4),
        threads_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        shared_everything_threads_enabled: false,
        ..wasm_smith::Config::default()
    };
    let limits = choices.word();
    let module = wasm_smith::Module::new(config, choices.unstructured()).ok()?;
    Some(Case {
        wasm: module.to_bytes(),
        calls: Vec::new(),
        limits,
    })
}
