;; The `transfer` of contracts/examples/token: in the same order it reads the sender's balance, stores what is left, reads
;; the receiver's balance and stores the sum.
;;
;; Nothing is parsed: the sender is the 32 bytes at their place in the host's {"sender":"...","funds":[]}, and messages are
;; bytes: the supply (16) to instantiate; to (32), amount (16) to execute. A balance is 16 bytes under its owner's 32.
;; Integers are little-endian.
(module
  ;; Both take Regions; db_read calls `allocate` for the value, and answers 0 if there is none.
  (import "env" "db_read" (func $db_read (param i32) (result i32)))
  (import "env" "db_write" (func $db_write (param i32 i32)))

  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 512))

  ;; Regions {offset, capacity, length}: the sender's key and the receiver's (offsets are set by the call), the value to be
  ;; stored, and the answers.
  (data (i32.const 0x10) "\00\00\00\00\20\00\00\00\20\00\00\00")
  (data (i32.const 0x20) "\00\00\00\00\20\00\00\00\20\00\00\00")
  (data (i32.const 0x30) "\40\00\00\00\10\00\00\00\10\00\00\00")
  ;; 0x40: the value.
  (data (i32.const 0x50) "\90\00\00\00\3e\00\00\00\3e\00\00\00")
  (data (i32.const 0x60) "\d0\00\00\00\20\00\00\00\20\00\00\00")
  (data (i32.const 0x70) "\f0\00\00\00\14\00\00\00\14\00\00\00")
  (data (i32.const 0x80) "\10\01\00\00\1b\00\00\00\1b\00\00\00")
  (data (i32.const 0x90) "{\"ok\":{\"messages\":[],\"attributes\":[],\"events\":[],\"data\":null}}")
  (data (i32.const 0xd0) "{\"error\":\"insufficient balance\"}")
  (data (i32.const 0xf0) "{\"error\":\"overflow\"}")
  (data (i32.const 0x110) "{\"error\":\"malformed input\"}")
  ;; 0x130: zero, the balance of those who have none.

  (func (export "interface_version_8"))

  ;; A Region with room for so many bytes after it.
  (func (export "allocate") (param $size i32) (result i32)
    (local $region i32)
    (local.set $region (global.get $free))
    (i32.store (local.get $region) (i32.add (local.get $region) (i32.const 12)))
    (i32.store offset=4 (local.get $region) (local.get $size))
    (i32.store offset=8 (local.get $region) (i32.const 0))
    (global.set $free
      (i32.and
        (i32.add (i32.add (local.get $region) (local.get $size)) (i32.const 19))
        (i32.const -8)))
    (local.get $region))

  ;; The host deallocates the answer, after which nothing of the call is in use.
  (func (export "deallocate") (param i32)
    (global.set $free (i32.const 512)))

  ;; Points the sender's key into the info. Whether the info is long enough.
  (func $sender (param $info i32) (result i32)
    (i32.store (i32.const 0x10) (i32.add (i32.load (local.get $info)) (i32.const 11)))
    (i32.ge_u (i32.load offset=8 (local.get $info)) (i32.const 43)))

  ;; Where the 16 bytes of the balance under the key are.
  (func $balance (param $key i32) (result i32)
    (local $value i32)
    (local.set $value (call $db_read (local.get $key)))
    (if (i32.eqz (local.get $value)) (then (return (i32.const 0x130))))
    (i32.load (local.get $value)))

  (func $store (param $key i32) (param $low i64) (param $high i64)
    (i64.store (i32.const 0x40) (local.get $low))
    (i64.store (i32.const 0x48) (local.get $high))
    (call $db_write (local.get $key) (i32.const 0x30)))

  (func (export "instantiate") (param $env i32) (param $info i32) (param $msg i32) (result i32)
    (if (i32.or
          (i32.eqz (call $sender (local.get $info)))
          (i32.ne (i32.load offset=8 (local.get $msg)) (i32.const 16)))
      (then (return (i32.const 0x80))))
    (call $db_write (i32.const 0x10) (local.get $msg))
    (i32.const 0x50))

  (func (export "execute") (param $env i32) (param $info i32) (param $msg i32) (result i32)
    (local $to i32) (local $balance i32)
    (local $low i64) (local $high i64)
    (local $amount_low i64) (local $amount_high i64)
    (local $sum_low i64) (local $sum_high i64) (local $carry i64)
    (if (i32.or
          (i32.eqz (call $sender (local.get $info)))
          (i32.ne (i32.load offset=8 (local.get $msg)) (i32.const 48)))
      (then (return (i32.const 0x80))))
    (local.set $to (i32.load (local.get $msg)))
    (i32.store (i32.const 0x20) (local.get $to))
    (local.set $amount_low (i64.load offset=32 (local.get $to)))
    (local.set $amount_high (i64.load offset=40 (local.get $to)))

    ;; The sender's.
    (local.set $balance (call $balance (i32.const 0x10)))
    (local.set $low (i64.load (local.get $balance)))
    (local.set $high (i64.load offset=8 (local.get $balance)))
    (if (i32.or
          (i64.lt_u (local.get $high) (local.get $amount_high))
          (i32.and
            (i64.eq (local.get $high) (local.get $amount_high))
            (i64.lt_u (local.get $low) (local.get $amount_low))))
      (then (return (i32.const 0x60))))
    (call $store
      (i32.const 0x10)
      (i64.sub (local.get $low) (local.get $amount_low))
      (i64.sub
        (i64.sub (local.get $high) (local.get $amount_high))
        (i64.extend_i32_u (i64.lt_u (local.get $low) (local.get $amount_low)))))

    ;; The receiver's.
    (local.set $balance (call $balance (i32.const 0x20)))
    (local.set $low (i64.load (local.get $balance)))
    (local.set $high (i64.load offset=8 (local.get $balance)))
    (local.set $sum_low (i64.add (local.get $low) (local.get $amount_low)))
    (local.set $carry (i64.extend_i32_u (i64.lt_u (local.get $sum_low) (local.get $low))))
    (local.set $sum_high (i64.add (local.get $high) (local.get $amount_high)))
    (if (i64.lt_u (local.get $sum_high) (local.get $high)) (then (return (i32.const 0x70))))
    (local.set $sum_high (i64.add (local.get $sum_high) (local.get $carry)))
    (if (i64.lt_u (local.get $sum_high) (local.get $carry)) (then (return (i32.const 0x70))))
    (call $store (i32.const 0x20) (local.get $sum_low) (local.get $sum_high))
    (i32.const 0x50)))
