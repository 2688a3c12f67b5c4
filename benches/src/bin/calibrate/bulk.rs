//! Programs for the operators that work on as many bytes or elements as they are told.

/// A program whose export `run` takes the number of rounds and the length, and does the operation once a round.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) name: &'static str,
    /// What a length counts.
    pub(crate) unit: &'static str,
    /// Two lengths: what a unit costs is in the difference.
    pub(crate) lengths: (i32, i32),
    operation: &'static str,
    /// For the second half of the time the operation must be possible again in a new instance.
    pub(crate) once: bool,
    pub(crate) excuse: Option<&'static str>,
}

impl Bulk {
    pub(crate) fn module(&self) -> String {
        format!(
            r#"(module
  (memory (export "memory") 32 1024)
  (table $t 10000 100000000 funcref)
  (func $f)
  (data $d "{data}")
  (elem $e func {elements})
  (func (export "run") (param $n i32) (param $len i32)
    loop $loop
      {operation}
      local.get $n i32.const 1 i32.sub local.tee $n
      br_if $loop
    end))"#,
            operation = self.operation,
            data = "\\2a".repeat(32 << 10),
            elements = "$f ".repeat(4096),
        )
    }
}

/// All of them.
pub(crate) const ALL: &[Bulk] = &[
    Bulk {
        name: "memory.fill",
        unit: "byte",
        lengths: (16, 64 << 10),
        operation: "i32.const 64 i32.const 1 local.get $len memory.fill",
        once: false,
        excuse: None,
    },
    Bulk {
        name: "memory.copy",
        unit: "byte",
        lengths: (16, 64 << 10),
        operation: "i32.const 64 i32.const 0x100000 local.get $len memory.copy",
        once: false,
        excuse: None,
    },
    Bulk {
        name: "memory.init",
        unit: "byte",
        lengths: (16, 32 << 10),
        operation: "i32.const 64 i32.const 0 local.get $len memory.init $d",
        once: false,
        excuse: None,
    },
    Bulk {
        name: "memory.grow",
        unit: "page, and touching it",
        lengths: (1, 16),
        operation: "local.get $len memory.grow i32.const 16 i32.shl i32.const 0xf000 i32.add i32.const 1 i32.store8",
        once: true,
        excuse: Some(
            "asking the system for pages; u8::MAX is the most that wasmtime's table can say, and a contract has 1024 pages at most",
        ),
    },
    Bulk {
        name: "table.fill",
        unit: "element",
        lengths: (4, 4096),
        operation: "i32.const 0 ref.null func local.get $len table.fill $t",
        once: false,
        excuse: None,
    },
    Bulk {
        name: "table.copy",
        unit: "element",
        lengths: (4, 4096),
        operation: "i32.const 0 i32.const 5000 local.get $len table.copy $t $t",
        once: false,
        excuse: None,
    },
    Bulk {
        name: "table.init",
        unit: "element",
        lengths: (4, 4096),
        operation: "i32.const 0 i32.const 0 local.get $len table.init $t $e",
        once: false,
        excuse: None,
    },
    Bulk {
        name: "table.grow",
        unit: "element",
        lengths: (4, 4096),
        operation: "ref.null func local.get $len table.grow $t drop",
        once: true,
        excuse: None,
    },
];
