;; Longest Collatz sequence below a bound: a small loop with a branch that cannot be predicted.
(module
  (func $steps (param $n i64) (result i64) (local $count i64)
    (block $done (loop $next
      (br_if $done (i64.le_u (local.get $n) (i64.const 1)))
      (if (i64.eqz (i64.and (local.get $n) (i64.const 1)))
        (then (local.set $n (i64.shr_u (local.get $n) (i64.const 1))))
        (else (local.set $n (i64.add (i64.mul (local.get $n) (i64.const 3)) (i64.const 1)))))
      (local.set $count (i64.add (local.get $count) (i64.const 1)))
      (br $next)))
    (local.get $count))
  (func (export "run") (result i64) (local $n i64) (local $best i64) (local $steps i64)
    (local.set $n (i64.const 30000))
    (loop $next
      (local.set $steps (call $steps (local.get $n)))
      (if (i64.gt_u (local.get $steps) (local.get $best)) (then (local.set $best (local.get $steps))))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $next (i64.ne (local.get $n) (i64.const 0))))
    (local.get $best)))
