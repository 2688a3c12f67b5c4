;; Lengths of strings, and the first place of a byte in them: loops of a load, a compare and a step.
(module
  (memory 1)
  (func $strlen (param $at i32) (result i32) (local $end i32)
    (local.set $end (local.get $at))
    (block $done (loop $next
      (br_if $done (i32.eqz (i32.load8_u (local.get $end))))
      (local.set $end (i32.add (local.get $end) (i32.const 1)))
      (br $next)))
    (i32.sub (local.get $end) (local.get $at)))
  (func $find (param $at i32) (param $byte i32) (param $length i32) (result i32) (local $end i32)
    (local.set $end (i32.add (local.get $at) (local.get $length)))
    (block $done (loop $next
      (br_if $done (i32.eq (local.get $at) (local.get $end)))
      (br_if $done (i32.eq (i32.load8_u (local.get $at)) (local.get $byte)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
    (local.get $at))
  ;; Strings of all lengths up to 127, one after the other.
  (func (export "run") (result i64) (local $n i32) (local $i i32) (local $at i32) (local $sum i64)
    (memory.fill (i32.const 0) (i32.const 97) (i32.const 65536))
    (local.set $i (i32.const 0))
    (loop $ends
      (local.set $at (i32.add (local.get $at) (local.get $i)))
      (i32.store8 (local.get $at) (i32.const 0))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $ends (i32.lt_u (local.get $i) (i32.const 128))))
    (local.set $n (i32.const 200))
    (loop $again
      (local.set $at (i32.const 0))
      (local.set $i (i32.const 0))
      (loop $strings
        (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (call $strlen (local.get $at)))))
        (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 1)) (i64.extend_i32_u
          (call $find (local.get $at) (i32.const 98) (local.get $i)))))
        (local.set $at (i32.add (i32.add (local.get $at) (local.get $i)) (i32.const 1)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $strings (i32.lt_u (local.get $i) (i32.const 128))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $sum)))
