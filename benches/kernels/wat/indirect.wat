;; Small functions called through a table: nothing can be inlined.
(module
  (type $step (func (param i64) (result i64)))
  (table funcref (elem $add $mul $xor $rot))
  (func $add (type $step) (i64.add (local.get 0) (i64.const 0x9e3779b97f4a7c15)))
  (func $mul (type $step) (i64.mul (local.get 0) (i64.const 0x5851f42d4c957f2d)))
  (func $xor (type $step) (i64.xor (local.get 0) (i64.shr_u (local.get 0) (i64.const 31))))
  (func $rot (type $step) (i64.rotl (local.get 0) (i64.const 17)))
  (func (export "run") (result i64) (local $n i32) (local $x i64)
    (local.set $n (i32.const 500000))
    (local.set $x (i64.const 1))
    (loop $next
      (local.set $x (call_indirect (type $step) (local.get $x) (i32.and (local.get $n) (i32.const 3))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $next (local.get $n)))
    (local.get $x)))
