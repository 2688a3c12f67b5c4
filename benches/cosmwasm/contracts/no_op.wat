;; A contract whose `execute` does nothing.
(module
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 256))

  ;; A Region {offset, capacity, length} as CosmWasm's host reads it, and the answer that it points to.
  (data (i32.const 0x10) "\20\00\00\00\3e\00\00\00\3e\00\00\00")
  (data (i32.const 0x20) "{\"ok\":{\"messages\":[],\"attributes\":[],\"events\":[],\"data\":null}}")

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
    (global.set $free (i32.const 256)))

  (func (export "instantiate") (param i32 i32 i32) (result i32)
    (i32.const 0x10))

  (func (export "execute") (param $env i32) (param $info i32) (param $msg i32) (result i32)
    (i32.const 0x10)))
