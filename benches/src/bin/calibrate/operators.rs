//! A small program for each operator: a loop around many of them, one needing the result of the one before, and another with
//! four such chains side by side.

use std::fmt::Write;

/// Operators in a loop's body.
const UNROLLED: usize = 64;

/// Chains side by side in the independent form.
const CHAINS: usize = 4;

/// How an operator is measured.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) class: &'static str,
    /// As in the text format, or a description.
    pub(crate) name: String,
    /// Type of the value that goes through the chain.
    ty: &'static str,
    /// What makes a value on the stack the next one; takes turns if there are several.
    steps: Vec<String>,
    /// What runs once before.
    before: &'static str,
    /// Declarations outside the function.
    outside: &'static str,
    /// Why it may take more than twice as long per fuel as the median.
    pub(crate) excuse: Option<&'static str>,
}

/// How the operators of a program depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// No operator at all: what is subtracted.
    Empty,
    Dependent,
    Independent,
}

impl Operator {
    fn new(class: &'static str, name: &str, ty: &'static str, steps: &[&str]) -> Operator {
        Operator {
            class,
            name: name.to_owned(),
            ty,
            steps: steps.iter().map(|step| (*step).to_owned()).collect(),
            before: "",
            outside: "",
            excuse: None,
        }
    }

    /// With a local operand.
    fn binary(class: &'static str, name: &str) -> Operator {
        let ty = operand_type(name);
        Operator::new(
            class,
            name,
            ty,
            &[
                &format!("local.get $a {name}"),
                &format!("local.get $b {name}"),
            ],
        )
    }

    fn unary(class: &'static str, name: &str) -> Operator {
        Operator::new(class, name, operand_type(name), &[name])
    }

    /// With something behind it that makes the type the operand's again.
    fn back(class: &'static str, name: &str, step: &str) -> Operator {
        Operator::new(class, name, operand_type(name), &[step])
    }

    fn excused(mut self, why: &'static str) -> Operator {
        self.excuse = Some(why);
        self
    }

    fn with(mut self, outside: &'static str) -> Operator {
        self.outside = outside;
        self
    }

    fn before(mut self, before: &'static str) -> Operator {
        self.before = before;
        self
    }

    /// A module that exports `run`, which goes round the loop as often as its parameter says.
    pub(crate) fn module(&self, form: Form) -> String {
        let ty = self.ty;
        let (chains, length) = match form {
            Form::Empty => (1, 0),
            Form::Dependent => (1, UNROLLED),
            Form::Independent => (CHAINS, UNROLLED / CHAINS),
        };
        let mut body = String::new();
        let step = |at: usize, chain: usize| {
            self.steps[at % self.steps.len()].replace("$x0", &format!("$x{chain}"))
        };
        match form {
            Form::Empty => body.push_str("local.get $x0 local.set $x0"),
            // The chain stays on the stack.
            Form::Dependent => {
                let steps: Vec<String> = (0..length).map(|at| step(at, 0)).collect();
                let _ = write!(body, "local.get $x0 {} local.set $x0", steps.join("\n"));
            }
            // Round by round, so that the chains are side by side in the code too.
            Form::Independent => {
                for at in 0..length {
                    for chain in 0..chains {
                        let step = step(at, chain);
                        let _ = writeln!(body, "local.get $x{chain} {step} local.set $x{chain}");
                    }
                }
            }
        }
        let locals: String = (0..CHAINS)
            .map(|chain| format!("(local $x{chain} {ty})"))
            .collect();
        let results: String = (0..chains)
            .map(|chain| format!("local.get $x{chain} call $keep "))
            .collect();
        let (x, a, b) = match ty {
            "i32" => ("i32.const 0", "i32.const 5", "i32.const 0x01234567"),
            "i64" => ("i64.const 0", "i64.const 5", "i64.const 0x0123456789abcdef"),
            "f32" => ("f32.const 1.5", "f32.const 1.25", "f32.const 0.8"),
            "f64" => ("f64.const 1.5", "f64.const 1.25", "f64.const 0.8"),
            _ => (
                "v128.const f32x4 1.5 1.5 1.5 1.5",
                "v128.const f32x4 1.25 1.25 1.25 1.25",
                "v128.const f32x4 0.8 0.8 0.8 0.8",
            ),
        };
        let zero = match ty {
            "v128" => "v128.const i64x2 0 0".to_owned(),
            _ => format!("{ty}.const 0"),
        };
        // The operands come from globals, so that the compiler does not know them.
        format!(
            r#"(module
  (memory (export "memory") 16 1024)
  (global $kept (mut {ty}) ({zero}))
  (global $a (mut {ty}) ({a}))
  (global $b (mut {ty}) ({b}))
  (global $x (mut {ty}) ({x}))
  (global $zero (mut i32) (i32.const 0))
  (global $one (mut i32) (i32.const 1))
  {outside}
  (func $keep (param {ty}) local.get 0 global.set $kept)
  (func (export "setup") {before})
  (func (export "run") (param $n i32) {locals} (local $a {ty}) (local $b {ty}) (local $zero i32) (local $one i32) (local $r i64)
    global.get $a local.set $a
    global.get $b local.set $b
    global.get $zero local.set $zero
    global.get $one local.set $one
    i64.const 88172645463325252 local.set $r
    global.get $x local.tee $x0 local.tee $x1 local.tee $x2 local.set $x3
    loop $loop
      {body}
      local.get $n i32.const 1 i32.sub local.tee $n
      br_if $loop
    end
    {results}))"#,
            outside = self.outside,
            before = self.before,
        )
    }

    /// Operators in the body of the program in `form`.
    pub(crate) fn per_round(&self, form: Form) -> f64 {
        match form {
            Form::Empty => 0.0,
            Form::Dependent | Form::Independent => UNROLLED as f64,
        }
    }
}

fn operand_type(name: &str) -> &'static str {
    match name.split('.').next() {
        Some("i32") => "i32",
        Some("i64") => "i64",
        Some("f32") => "f32",
        Some("f64") => "f64",
        _ => "v128",
    }
}

const MISPREDICTED: &str = "a misprediction costs the same whatever the operator; code that has nothing else is not priced for it";

/// Bits of a pseudorandom sequence that no branch predictor knows: xorshift64 in `$r`.
const RANDOM: &str = "local.get $r local.get $r i64.const 13 i64.shl i64.xor local.tee $r \
    local.get $r i64.const 7 i64.shr_u i64.xor local.tee $r \
    local.get $r i64.const 17 i64.shl i64.xor local.set $r ";

/// All that are measured.
pub(crate) fn all() -> Vec<Operator> {
    let mut all = Vec::new();
    for ty in ["i32", "i64"] {
        for op in ["add", "sub", "and", "or", "xor"] {
            all.push(Operator::binary("arithmetic", &format!("{ty}.{op}")));
        }
        all.push(Operator::binary("multiplication", &format!("{ty}.mul")));
        // The result is the next divisor, and odd lest it be zero.
        for op in ["div_u", "div_s", "rem_u", "rem_s"] {
            all.push(Operator::new(
                "division",
                &format!("{ty}.{op}"),
                ty,
                &[&format!(
                    "local.set $x0 local.get $b local.get $x0 {ty}.const 1 {ty}.or {ty}.{op}"
                )],
            ));
        }
        for op in ["shl", "shr_u", "shr_s", "rotl", "rotr"] {
            all.push(Operator::binary("shift", &format!("{ty}.{op}")));
        }
        for op in ["clz", "ctz", "popcnt", "extend8_s", "extend16_s"] {
            all.push(Operator::unary("bits", &format!("{ty}.{op}")));
        }
        let widen = if ty == "i64" { "i64.extend_i32_u" } else { "" };
        for op in ["eq", "lt_s", "lt_u", "ge_s"] {
            all.push(Operator::back(
                "comparison",
                &format!("{ty}.{op}"),
                &format!("local.get $a {ty}.{op} {widen}"),
            ));
        }
        all.push(Operator::back(
            "comparison",
            &format!("{ty}.eqz"),
            &format!("{ty}.eqz {widen}"),
        ));
        all.push(Operator::new(
            "select",
            &format!("select ({ty})"),
            ty,
            &[
                "local.get $a local.get $zero select",
                "local.get $b local.get $one select",
            ],
        ));
    }
    all.push(Operator::back(
        "bits",
        "i64.extend_i32_s",
        "i32.wrap_i64 i64.extend_i32_s",
    ));
    all.push(Operator::new(
        "variable",
        "local.tee",
        "i64",
        &["local.tee $a"],
    ));
    all.push(Operator::new(
        "variable",
        "global.set, global.get",
        "i64",
        &["global.set $kept global.get $kept"],
    ));
    all.extend(memory());
    all.extend(control());
    for ty in ["f32", "f64"] {
        all.extend(float(ty));
    }
    all.extend(conversions());
    all.extend(vectors());
    all
}

fn memory() -> Vec<Operator> {
    let class = "load";
    let mut all = Vec::new();
    // Memory is zero: an address that is loaded is 0.
    for op in ["load", "load8_u", "load8_s", "load16_u", "load16_s"] {
        all.push(Operator::unary(class, &format!("i32.{op}")));
    }
    for op in ["load", "load32_u", "load8_u"] {
        all.push(Operator::back(
            class,
            &format!("i64.{op}"),
            &format!("i32.wrap_i64 i64.{op}"),
        ));
    }
    // What is loaded cannot be an address: these need only what they are added to.
    for (op, ty, add) in [
        ("f32.load", "f32", "f32.add"),
        ("f64.load", "f64", "f64.add"),
        ("v128.load", "v128", "v128.xor"),
        ("v128.load8_splat", "v128", "v128.xor"),
        ("v128.load8x8_u", "v128", "v128.xor"),
    ] {
        let steps: Vec<String> = (0..UNROLLED)
            .map(|at| format!("local.get $zero {op} offset={} {add}", at * 16))
            .collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        all.push(Operator::new(class, op, ty, &steps));
    }
    all.push(
        Operator::new(
            "load",
            "i32.load, random in 64 MiB",
            "i64",
            &["i32.wrap_i64 i32.const 0x3fffff8 i32.and i64.load i64.const 0x5851f42d4c957f2d i64.add \
               i64.const 0x2545f4914f6cdd1d i64.mul i64.const 29 i64.rotl"],
        )
        .before("i32.const 1008 memory.grow drop i32.const 0 i32.const 1 i32.const 0x4000000 memory.fill")
        .excused("what a cache miss costs depends on all that ran before: only the first level is priced"),
    );
    for (op, ty) in [
        ("i32.store", "i32"),
        ("i32.store8", "i32"),
        ("i64.store", "i64"),
        ("f64.store", "f64"),
        ("v128.store", "v128"),
    ] {
        let steps: Vec<String> = (0..UNROLLED)
            .map(|at| {
                let offset = at * 16;
                format!(
                    "local.set $x0 local.get $zero local.get $x0 {op} offset={offset} local.get $x0"
                )
            })
            .collect();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        all.push(Operator::new("store", op, ty, &steps));
    }
    all.push(Operator::new(
        "store",
        "i32.store8, i32.load (not forwarded)",
        "i32",
        &["local.set $x0 local.get $zero local.get $x0 i32.store8 offset=1 local.get $zero i32.load"],
    )
    .excused("a load of bytes that were stored one by one waits for the store: as rare as a misprediction"));
    all
}

fn control() -> Vec<Operator> {
    let leaf = "(type $leaf (func (param i64) (result i64)))
      (table 4 funcref) (elem (i32.const 0) $leaf $other)
      (func $leaf (type $leaf) local.get 0) (func $other (type $leaf) i64.const 1)";
    vec![
        Operator::new(
            "branch",
            "br_if, not taken",
            "i32",
            &["block local.get $zero br_if 0 end"],
        ),
        Operator::new(
            "branch",
            "br_if, taken",
            "i32",
            &["block local.get $one br_if 0 unreachable end"],
        ),
        Operator::new(
            "branch",
            "if, predicted",
            "i32",
            &["local.get $zero if (param i32) (result i32) i32.const 3 i32.add else i32.const 5 i32.xor end"],
        ),
        Operator::new("branch", "br", "i32", &["block br 0 end"]),
        Operator::new(
            "branch",
            "if, unpredictable",
            "i64",
            &[&format!(
                "{RANDOM} local.get $r i32.wrap_i64 i32.const 1 i32.and if (param i64) (result i64) \
                 i64.const 3 i64.mul else i64.const 5 i64.xor local.get $a i64.sub end"
            )],
        )
        .excused(MISPREDICTED),
        Operator::new(
            "br_table",
            "br_table, predicted",
            "i32",
            &["block block block block local.get $one br_table 0 1 2 3 end \
               local.get $r i64.const 3 i64.add local.set $r end \
               local.get $r i64.const 5 i64.xor local.set $r end \
               local.get $r i64.const 1 i64.rotl local.set $r end"],
        ),
        Operator::new(
            "br_table",
            "br_table, unpredictable",
            "i64",
            &[&format!(
                "{RANDOM} block block block block local.get $r i32.wrap_i64 i32.const 3 i32.and br_table 0 1 2 3 end \
                 local.get $r local.get $a i64.add local.set $r end \
                 local.get $r local.get $b i64.sub local.set $r end \
                 local.get $r local.get $a i64.xor local.set $r end"
            )],
        )
        .excused(MISPREDICTED),
        Operator::new("call", "call", "i64", &["call $leaf"]).with(leaf),
        Operator::new(
            "call",
            "call_indirect",
            "i64",
            &["local.get $zero call_indirect (type $leaf)"],
        )
        .with(leaf),
        Operator::new(
            "call",
            "call_indirect, unpredictable",
            "i64",
            &[&format!(
                "{RANDOM} local.get $r i32.wrap_i64 i32.const 1 i32.and call_indirect (type $leaf)"
            )],
        )
        .with(leaf)
        .excused(MISPREDICTED),
        Operator::new(
            "table",
            "table.get, ref.is_null",
            "i32",
            &["i32.const 1 i32.and table.get $refs ref.is_null"],
        )
        .with("(table $refs 4 funcref)"),
        Operator::new(
            "table",
            "table.set",
            "i32",
            &["local.get $zero ref.null func table.set $refs"],
        )
        .with("(table $refs 4 funcref)"),
        Operator::new(
            "table",
            "ref.func, ref.is_null",
            "i32",
            &["ref.func $f ref.is_null i32.add"],
        )
        .with("(func $f) (elem declare func $f)"),
        Operator::new(
            "table",
            "table.size",
            "i32",
            &["table.size $refs i32.add"],
        )
        .with("(table $refs 4 100 funcref)"),
        Operator::new("memory", "memory.size", "i32", &["memory.size i32.add"]),
    ]
}

fn float(ty: &'static str) -> Vec<Operator> {
    let name = |op: &str| format!("{ty}.{op}");
    let int = if ty == "f32" { "i32" } else { "i64" };
    let mut all = Vec::new();
    for op in ["add", "sub", "mul", "div", "min", "max", "copysign"] {
        all.push(Operator::binary("float", &name(op)));
    }
    for op in ["sqrt", "ceil", "floor", "trunc", "nearest", "abs", "neg"] {
        all.push(Operator::unary("float", &name(op)));
    }
    for op in ["eq", "lt"] {
        all.push(Operator::new(
            "float comparison",
            &name(op),
            ty,
            &[&format!("local.get $a {ty}.{op} {ty}.convert_i32_u")],
        ));
    }
    all.push(Operator::new(
        "select",
        &format!("select ({ty})"),
        ty,
        &[
            "local.get $a local.get $zero select",
            "local.get $b local.get $one select",
        ],
    ));
    all.push(Operator::new(
        "conversion",
        &format!("{ty}.reinterpret_{int}, {int}.reinterpret_{ty}"),
        ty,
        &[&format!("{int}.reinterpret_{ty} {ty}.reinterpret_{int}")],
    ));
    for int in ["i32", "i64"] {
        for sign in ["s", "u"] {
            for trunc in ["trunc", "trunc_sat"] {
                all.push(Operator::new(
                    "conversion",
                    &format!("{int}.{trunc}_{ty}_{sign}, {ty}.convert_{int}_{sign}"),
                    ty,
                    &[&format!(
                        "{int}.{trunc}_{ty}_{sign} {ty}.convert_{int}_{sign}"
                    )],
                ));
            }
        }
    }
    all
}

fn conversions() -> Vec<Operator> {
    vec![Operator::new(
        "conversion",
        "f64.promote_f32, f32.demote_f64",
        "f64",
        &["f32.demote_f64 f64.promote_f32"],
    )]
}

fn vectors() -> Vec<Operator> {
    let mut all = Vec::new();
    for op in [
        "v128.and",
        "v128.xor",
        "v128.andnot",
        "i8x16.add",
        "i16x8.add",
        "i32x4.add",
        "i64x2.add",
        "i8x16.add_sat_u",
        "i8x16.min_u",
        "i32x4.max_s",
        "i8x16.avgr_u",
        "i8x16.eq",
        "i8x16.lt_u",
        "i32x4.gt_s",
        "i64x2.gt_s",
        "f32x4.lt",
        "i8x16.narrow_i16x8_u",
        "i16x8.narrow_i32x4_s",
    ] {
        all.push(Operator::binary("vector", op));
    }
    for op in [
        "i16x8.mul",
        "i32x4.mul",
        "i64x2.mul",
        "i32x4.dot_i16x8_s",
        "i16x8.q15mulr_sat_s",
        "i16x8.extmul_low_i8x16_s",
        "i32x4.extmul_high_i16x8_u",
        "i64x2.extmul_low_i32x4_s",
    ] {
        all.push(Operator::binary("vector multiplication", op));
    }
    for op in [
        "i8x16.swizzle",
        "i8x16.shuffle 0 17 2 19 4 21 6 23 8 25 10 27 12 29 14 31",
    ] {
        all.push(Operator::binary("vector shuffle", op));
    }
    for op in [
        "v128.not",
        "i8x16.abs",
        "i8x16.neg",
        "i64x2.abs",
        "i8x16.popcnt",
        "i16x8.extend_low_i8x16_u",
        "i16x8.extadd_pairwise_i8x16_s",
    ] {
        all.push(Operator::unary("vector", op));
    }
    all.push(Operator::new(
        "vector",
        "v128.bitselect",
        "v128",
        &["local.get $a local.get $b v128.bitselect"],
    ));
    for (op, amount) in [
        ("i8x16.shl", "local.get $one"),
        ("i8x16.shr_s", "local.get $one"),
        ("i8x16.shr_u", "local.get $one"),
        ("i16x8.shl", "local.get $one"),
        ("i32x4.shr_s", "local.get $one"),
        ("i64x2.shr_s", "local.get $one"),
        ("i64x2.shl", "local.get $one"),
    ] {
        all.push(Operator::new(
            "vector shift",
            op,
            "v128",
            &[&format!("{amount} {op}")],
        ));
    }
    for (lane, splat) in [
        ("i8x16.extract_lane_u 3", "i8x16.splat"),
        ("i32x4.extract_lane 1", "i32x4.splat"),
        ("i64x2.extract_lane 1", "i64x2.splat"),
        ("f32x4.extract_lane 1", "f32x4.splat"),
        ("f64x2.extract_lane 1", "f64x2.splat"),
        ("i8x16.bitmask", "i8x16.splat"),
        ("i32x4.bitmask", "i32x4.splat"),
        ("i8x16.all_true", "i8x16.splat"),
        ("v128.any_true", "i32x4.splat"),
    ] {
        all.push(Operator::new(
            "vector lane",
            &format!("{lane}, {splat}"),
            "v128",
            &[&format!("{lane} {splat}")],
        ));
    }
    all.push(Operator::new(
        "vector lane",
        "i32x4.replace_lane 2",
        "v128",
        &["local.get $one i32x4.replace_lane 2"],
    ));
    for ty in ["f32x4", "f64x2"] {
        for op in ["add", "mul", "div", "min", "max", "pmin"] {
            all.push(Operator::binary("vector float", &format!("{ty}.{op}")));
        }
        for op in ["sqrt", "ceil", "nearest", "abs"] {
            all.push(Operator::unary("vector float", &format!("{ty}.{op}")));
        }
    }
    for (to, back) in [
        ("i32x4.trunc_sat_f32x4_s", "f32x4.convert_i32x4_s"),
        ("i32x4.trunc_sat_f32x4_u", "f32x4.convert_i32x4_u"),
        ("i32x4.trunc_sat_f64x2_s_zero", "f64x2.convert_low_i32x4_s"),
        ("i32x4.trunc_sat_f64x2_u_zero", "f64x2.convert_low_i32x4_u"),
        ("f32x4.demote_f64x2_zero", "f64x2.promote_low_f32x4"),
    ] {
        all.push(Operator::new(
            "vector conversion",
            &format!("{to}, {back}"),
            "v128",
            &[&format!("{to} {back}")],
        ));
    }
    all
}
