;; Product of two 128 x 128 matrices of doubles: a triple loop with arithmetic to hide an addition behind.
(module
  (memory 8)
  (func (export "run") (result i64) (local $i i32) (local $j i32) (local $k i32) (local $sum f64)
    (loop $fill
      (f64.store (i32.shl (local.get $i) (i32.const 3)) (f64.convert_i32_u (i32.and (local.get $i) (i32.const 63))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $fill (i32.lt_u (local.get $i) (i32.const 32768))))
    (local.set $i (i32.const 0))
    (loop $rows
      (local.set $j (i32.const 0))
      (loop $columns
        (local.set $k (i32.const 0))
        (local.set $sum (f64.const 0))
        (loop $inner
          (local.set $sum (f64.add (local.get $sum) (f64.mul
            (f64.load (i32.shl (i32.add (i32.shl (local.get $i) (i32.const 7)) (local.get $k)) (i32.const 3)))
            (f64.load offset=131072 (i32.shl (i32.add (i32.shl (local.get $k) (i32.const 7)) (local.get $j)) (i32.const 3))))))
          (local.set $k (i32.add (local.get $k) (i32.const 1)))
          (br_if $inner (i32.lt_u (local.get $k) (i32.const 128))))
        (f64.store offset=262144
          (i32.shl (i32.add (i32.shl (local.get $i) (i32.const 7)) (local.get $j)) (i32.const 3)) (local.get $sum))
        (local.set $j (i32.add (local.get $j) (i32.const 1)))
        (br_if $columns (i32.lt_u (local.get $j) (i32.const 128))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $rows (i32.lt_u (local.get $i) (i32.const 128))))
    (i64.trunc_sat_f64_s (f64.load offset=262144 (i32.const 8000)))))
