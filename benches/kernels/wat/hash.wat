;; Mixing rounds without memory: long straight-line blocks.
(module
  (func $round (param $x i64) (param $k i64) (result i64)
    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 33))))
    (local.set $x (i64.mul (local.get $x) (i64.const 0xff51afd7ed558ccd)))
    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 29))))
    (local.set $x (i64.mul (local.get $x) (i64.const 0xc4ceb9fe1a85ec53)))
    (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 32))))
    (i64.add (local.get $x) (local.get $k)))
  (func (export "run") (result i64) (local $n i64) (local $x i64)
    (local.set $n (i64.const 500000))
    (loop $next
      (local.set $x (call $round (local.get $x) (local.get $n)))
      (local.set $x (i64.rotl (local.get $x) (i64.const 13)))
      (local.set $x (call $round (local.get $x) (i64.const 17)))
      (local.set $n (i64.sub (local.get $n) (i64.const 1)))
      (br_if $next (i64.ne (local.get $n) (i64.const 0))))
    (local.get $x)))
