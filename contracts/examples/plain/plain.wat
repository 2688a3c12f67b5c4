;; An escrow, by hand: a contract needs neither Rust nor the SDK, only what the host interface asks of it.
;;
;;   init(seller, deadline) ─ value ──▶ entry "e" of the storage                             ──▶ Opened
;;   release ─ buyer ─────────────────▶ the seller is paid, the entry is gone                ──▶ Released
;;   refund  ─ seller, or the buyer after the deadline ▶ the buyer is paid, the entry is gone ──▶ Refunded
;;   state ◀── buyer, seller, deadline, amount
;;
;; What a contract is made of, all of which is here:
;;
;;   - imports of the module "slackline_v1", which are the host's functions;
;;   - its memory, exported as "memory", through which all that is no number is handed over: pointer and length;
;;   - a method for each other export, without parameters and results. Its arguments are the input, in borsh: integers
;;     little-endian, addresses as they are, one behind the other;
;;   - "revert" undoes the call. An error is its number in one byte; text, which begins with a printable character, is for people;
;;   - the description, JSON in the custom section "slackline_abi", by which the node and the command line turn JSON into
;;     input and output into JSON. Without it the contract runs as well, but callers have to write bytes.
;;
;; Memory is zero when a call begins, but for the data below; nothing in it outlives the call. How it is used:
;;
;;   0x000  "e", the key
;;   0x020  topic 0: SHA-256 of the name of the event ┐
;;   0x040  buyer   ┐                                 ├ the topics of all events
;;   0x060  seller  │ the entry, 72 bytes   ┐         ┘
;;   0x080  deadline┘ ┐ data of Opened      │ what `state` returns, 88 bytes
;;   0x088  amount    ┘ ┐ data of the others┘
;;   0x0a0  caller
;;   0x0c0  scratch: attached value, own address, error
;;   0x100  names of events, hashed; texts

(module
  (import "slackline_v1" "input_len" (func $input_len (result i32)))
  (import "slackline_v1" "input_read" (func $input_read (param $dst i32)))
  (import "slackline_v1" "return_data" (func $return_data (param $ptr i32) (param $len i32)))
  (import "slackline_v1" "revert" (func $revert (param $ptr i32) (param $len i32)))
  (import "slackline_v1" "storage_get"
    (func $storage_get (param $key i32) (param $key_len i32) (param $dst i32) (param $cap i32) (result i64)))
  (import "slackline_v1" "storage_set"
    (func $storage_set (param $key i32) (param $key_len i32) (param $value i32) (param $value_len i32)))
  (import "slackline_v1" "storage_delete" (func $storage_delete (param $key i32) (param $key_len i32)))
  (import "slackline_v1" "caller" (func $caller (param $dst i32)))
  (import "slackline_v1" "self_address" (func $self_address (param $dst i32)))
  (import "slackline_v1" "value" (func $value (param $dst i32)))
  (import "slackline_v1" "balance" (func $balance (param $address i32) (param $dst i32)))
  (import "slackline_v1" "transfer" (func $transfer (param $to i32) (param $amount i32) (result i32)))
  (import "slackline_v1" "block_time" (func $block_time (result i64)))
  (import "slackline_v1" "emit" (func $emit (param $topics i32) (param $count i32) (param $data i32) (param $len i32)))

  (memory (export "memory") 1)
  (data (i32.const 0x000) "e")
  (data (i32.const 0x100) ;; SHA-256 of "Opened"
    "\b1\9f\b8\d1\b3\95\b3\33\25\1f\40\be\29\09\ca\37\a0\b0\a0\07\b3\c4\c4\b3\4b\72\6b\e7\1f\71\5d\aa")
  (data (i32.const 0x120) ;; of "Released"
    "\f3\3d\ee\a9\b1\00\9d\b3\14\8f\26\14\e5\da\59\c0\3c\6f\e4\3d\f5\59\72\f3\86\0d\8b\87\1e\1b\2a\ce")
  (data (i32.const 0x140) ;; of "Refunded"
    "\11\7f\6a\7c\f0\37\22\77\23\3d\04\77\c1\eb\99\52\3a\f8\47\c2\b8\bd\d4\1f\c3\cc\53\fa\b7\8b\b8\0c")
  (data (i32.const 0x160) "malformed input")       ;; 15 bytes
  (data (i32.const 0x170) "method is not payable") ;; 21 bytes

  ;; ---- methods ----

  ;; init(seller: address, deadline: u64), payable
  (func (export "init")
    (call $takes (i32.const 40))
    (call $input_read (i32.const 0x060))
    (call $caller (i32.const 0x040))
    (call $storage_set (i32.const 0x000) (i32.const 1) (i32.const 0x040) (i32.const 72))
    (call $read_amount)
    (call $tell (i32.const 0x100) (i32.const 0x080) (i32.const 24)))

  ;; release()
  (func (export "release")
    (call $not_payable)
    (call $takes (i32.const 0))
    (call $load)
    (if (i32.eqz (call $is_caller (i32.const 0x040)))
      (then (call $fail (i32.const 1)))) ;; NotBuyer
    (call $pay (i32.const 0x060) (i32.const 0x120)))

  ;; refund()
  (func (export "refund")
    (call $not_payable)
    (call $takes (i32.const 0))
    (call $load)
    (if (i32.eqz (call $is_caller (i32.const 0x060)))
      (then
        (if (i32.eqz (call $is_caller (i32.const 0x040)))
          (then (call $fail (i32.const 2)))) ;; NotParty
        (if (i64.le_u (call $block_time) (i64.load (i32.const 0x080)))
          (then (call $fail (i32.const 3)))))) ;; TooEarly
    (call $pay (i32.const 0x040) (i32.const 0x140)))

  ;; state() -> State, a view: it is called statically, in which writing aborts the call
  (func (export "state")
    (call $not_payable)
    (call $takes (i32.const 0))
    (call $load)
    (call $return_data (i32.const 0x040) (i32.const 88)))

  ;; ---- helpers ----

  ;; Reverts unless the input has so many bytes.
  (func $takes (param $len i32)
    (if (i32.ne (call $input_len) (local.get $len))
      (then (call $revert (i32.const 0x160) (i32.const 15)))))

  ;; Reverts when value is attached.
  (func $not_payable
    (call $value (i32.const 0x0c0))
    (if (i64.ne (i64.or (i64.load (i32.const 0x0c0)) (i64.load (i32.const 0x0c8))) (i64.const 0))
      (then (call $revert (i32.const 0x170) (i32.const 21)))))

  ;; Reverts with an error.
  (func $fail (param $error i32)
    (i32.store8 (i32.const 0x0c0) (local.get $error))
    (call $revert (i32.const 0x0c0) (i32.const 1)))

  ;; Reads the entry, the amount and the caller.
  (func $load
    (if (i64.ne
          (call $storage_get (i32.const 0x000) (i32.const 1) (i32.const 0x040) (i32.const 72))
          (i64.const 72))
      (then (call $fail (i32.const 0)))) ;; Closed
    (call $read_amount)
    (call $caller (i32.const 0x0a0)))

  ;; All that the contract has, also what came in otherwise.
  (func $read_amount
    (call $self_address (i32.const 0x0c0))
    (call $balance (i32.const 0x0c0) (i32.const 0x088)))

  ;; Whether the address at $who is the caller's.
  (func $is_caller (param $who i32) (result i32)
    (i32.and
      (i32.and
        (i64.eq (i64.load (local.get $who)) (i64.load (i32.const 0x0a0)))
        (i64.eq (i64.load offset=8 (local.get $who)) (i64.load (i32.const 0x0a8))))
      (i32.and
        (i64.eq (i64.load offset=16 (local.get $who)) (i64.load (i32.const 0x0b0)))
        (i64.eq (i64.load offset=24 (local.get $who)) (i64.load (i32.const 0x0b8))))))

  ;; Forgets the entry, pays the amount to whom $to points to, and tells it by the name that $name points to.
  (func $pay (param $to i32) (param $name i32)
    (call $storage_delete (i32.const 0x000) (i32.const 1))
    ;; It is the balance, so it suffices.
    (if (call $transfer (local.get $to) (i32.const 0x088))
      (then unreachable))
    (call $tell (local.get $name) (i32.const 0x088) (i32.const 16)))

  ;; Emits an event of that name about buyer and seller.
  (func $tell (param $name i32) (param $data i32) (param $len i32)
    (memory.copy (i32.const 0x020) (local.get $name) (i32.const 32))
    (call $emit (i32.const 0x020) (i32.const 3) (local.get $data) (local.get $len)))

  ;; ---- description ----

  (@custom "slackline_abi"
    "{\"version\": 1, \"name\": \"escrow\", \"doc\": \"Holds money until two who do not trust each other "
      "agree.\","
     "\"methods\": ["
      "{\"name\": \"init\", \"doc\": \"Holds the attached value. The caller is the buyer; until the deadline "
        "they do not get it back.\", \"args\": [{\"name\": \"seller\", \"type\": \"address\"}, {\"name\": \"deadline\", "
        "\"type\": \"u64\"}], \"payable\": true},"
      "{\"name\": \"release\", \"doc\": \"Pays the seller. For the buyer.\", \"error\": {\"ref\": \"Error\"}},"
      "{\"name\": \"refund\", \"doc\": \"Pays the buyer. For the seller, and after the deadline for the "
        "buyer.\", \"error\": {\"ref\": \"Error\"}},"
      "{\"name\": \"state\", \"doc\": \"Who, until when, how much.\", \"result\": {\"ref\": \"State\"}, \"error\": "
        "{\"ref\": \"Error\"}, \"view\": true}"
     "],"
     "\"events\": ["
      "{\"name\": \"Opened\", \"doc\": \"There is something to be released.\", \"topic\": "
        "\"b19fb8d1b395b333251f40be2909ca37a0b0a007b3c4c4b34b726be71f715daa\", \"fields\": [{\"name\": "
        "\"buyer\", \"type\": \"address\", \"topic\": true}, {\"name\": \"seller\", \"type\": \"address\", \"topic\": "
        "true}, {\"name\": \"deadline\", \"type\": \"u64\"}, {\"name\": \"amount\", \"type\": \"u128\"}]},"
      "{\"name\": \"Released\", \"doc\": \"The seller has it.\", \"topic\": "
        "\"f33deea9b1009db3148f2614e5da59c03c6fe43df55972f3860d8b871e1b2ace\", \"fields\": [{\"name\": "
        "\"buyer\", \"type\": \"address\", \"topic\": true}, {\"name\": \"seller\", \"type\": \"address\", \"topic\": "
        "true}, {\"name\": \"amount\", \"type\": \"u128\"}]},"
      "{\"name\": \"Refunded\", \"doc\": \"The buyer has it back.\", \"topic\": "
        "\"117f6a7cf0372277233d0477c1eb99523af847c2b8bdd41fc3cc53fab78bb80c\", \"fields\": [{\"name\": "
        "\"buyer\", \"type\": \"address\", \"topic\": true}, {\"name\": \"seller\", \"type\": \"address\", \"topic\": "
        "true}, {\"name\": \"amount\", \"type\": \"u128\"}]}"
     "],"
     "\"types\": {"
      "\"State\": {\"kind\": \"struct\", \"fields\": [{\"name\": \"buyer\", \"type\": \"address\"}, {\"name\": \"seller\", "
        "\"type\": \"address\"}, {\"name\": \"deadline\", \"type\": \"u64\"}, {\"name\": \"amount\", \"type\": \"u128\"}]},"
      "\"Error\": {\"kind\": \"enum\", \"variants\": [{\"name\": \"Closed\", \"doc\": \"It was paid out already.\"}, "
        "{\"name\": \"NotBuyer\", \"doc\": \"Only the buyer may do that.\"}, {\"name\": \"NotParty\", \"doc\": \"Only "
        "the buyer and the seller may do that.\"}, {\"name\": \"TooEarly\", \"doc\": \"The deadline is not "
        "past.\"}]}"
     "}}"
  )
)
