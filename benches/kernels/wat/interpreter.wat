;; A bytecode interpreter: a branch table in a loop, a handful of instructions per case.
(module
  (memory 1)
  (data (i32.const 0) "\00\01\02\03\01\00\02\01\03\00\00\02\01\03\02\01")
  (func (export "run") (result i64) (local $pc i32) (local $acc i64) (local $steps i32)
    (local.set $steps (i32.const 1000000))
    (loop $next
      (block $end
        (block $d (block $c (block $b (block $a
          (br_table $a $b $c $d (i32.load8_u (i32.and (local.get $pc) (i32.const 15)))))
          (local.set $acc (i64.add (local.get $acc) (i64.const 3)))
          (br $end))
          (local.set $acc (i64.xor (i64.rotl (local.get $acc) (i64.const 5)) (i64.const 0x9e3779b9)))
          (br $end))
          (local.set $acc (i64.mul (local.get $acc) (i64.const 0x5851f42d4c957f2d)))
          (br $end))
        (local.set $acc (i64.sub (local.get $acc) (i64.extend_i32_u (local.get $pc)))))
      (local.set $pc (i32.add (local.get $pc) (i32.const 1)))
      (local.set $steps (i32.sub (local.get $steps) (i32.const 1)))
      (br_if $next (local.get $steps)))
    (local.get $acc)))
