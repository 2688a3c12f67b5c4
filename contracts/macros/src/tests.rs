//! What is refused, and what it says. That what is accepted works is tested where it runs: in the SDK.

use crate::{contract, data, error, event, interface};
use syn::parse_str;

#[track_caller]
fn contract_says(module: &str, says: &str) {
    let expanded = contract::expand(contract::Options::default(), parse_str(module).unwrap());
    let error = expanded.expect_err("it is refused").to_string();
    assert!(error.contains(says), "{error}");
}

/// A contract with these items in the `impl` of its storage.
#[track_caller]
fn methods_say(methods: &str, says: &str) {
    let module = format!("mod a {{ #[storage] struct A; impl A {{ {methods} }} }}");
    contract_says(&module, says);
}

#[track_caller]
fn storage_says(fields: &str, says: &str) {
    let module = format!("mod a {{ #[storage] struct A {{ {fields} }} impl A {{}} }}");
    contract_says(&module, says);
}

#[test]
fn the_helpers_of_these_tests_begin_with_what_is_accepted() {
    let accepted = "mod a { #[storage] struct A { #[key(3)] a: Value<u8> } impl A { pub fn a(&mut self) {} } }";
    let options = contract::Options::default();
    assert!(contract::expand(options, parse_str(accepted).unwrap()).is_ok());
}

#[test]
fn a_contract_has_contents_storage_and_methods() {
    contract_says("mod a;", "needs the module's contents");
    contract_says("mod a { struct A; }", "a struct marked `#[storage]`");
    contract_says("mod a { #[storage] struct A; }", "`impl A { pub fn … }`");
    let two = "mod a { #[storage] struct A; #[storage] struct B; impl A {} }";
    contract_says(two, "this is the second");
    let generic = "mod a { #[storage] struct A<T> { a: T } impl A {} }";
    contract_says(generic, "no generics");
    let error = parse_str::<contract::Options>("event(A)").err().unwrap();
    assert!(error.to_string().contains("the one argument is `events"));
}

#[test]
fn fields_of_the_storage_have_names_and_keys_of_their_own() {
    contract_says("mod a { #[storage] struct A(u8); impl A {} }", "have names");
    storage_says(
        "a: Value<u8>, #[key(0)] b: Value<u8>",
        "`a` has the key 0 too",
    );
    storage_says(
        "#[key(1)] a: Value<u8>, b: Value<u8>",
        "`a` has the key 1 too",
    );
    storage_says("#[key(256)] a: Value<u8>", "number too large");
    let many: String = (0..257).map(|i| format!("f{i}: Value<u8>,")).collect();
    storage_says(&many, "at most 256 fields");
}

#[test]
fn methods_take_self_as_they_are_marked() {
    methods_say("pub fn a() {}", "takes `&mut self`");
    methods_say("pub fn a(self) {}", "takes `&mut self`");
    methods_say("pub fn a(&self) {}", "is marked `#[view]`");
    methods_say("#[view] pub fn a(&mut self) {}", "changes nothing: `&self`");
    methods_say("#[view] fn a(&self) {}", "only a `pub fn`");
    methods_say("#[view] #[view] pub fn a(&self) {}", "twice");
    methods_say("#[view(all)] pub fn a(&self) {}", "unexpected token");
    methods_say("#[view] #[payable] pub fn a(&self) {}", "cannot take money");
}

#[test]
fn hooks_are_not_called() {
    methods_say("pub fn init(&mut self) {}", "mark it `#[init]`");
    methods_say("pub fn upgrade(&mut self) {}", "mark it `#[upgrade]`");
    methods_say("#[init] #[upgrade] pub fn a(&mut self) {}", "either");
    methods_say(
        "#[init] #[reentrant] pub fn a(&mut self) {}",
        "it cannot be called",
    );
    methods_say(
        "#[upgrade] #[payable] pub fn a(&mut self) {}",
        "no value attached",
    );
    methods_say(
        "#[init] pub fn a(&mut self) {} #[init] pub fn b(&mut self) {}",
        "another method `init`",
    );
}

#[test]
fn names_are_as_the_node_has_them() {
    methods_say(
        "pub fn aB(&mut self) {}",
        "lower-case letters, digits and `_`",
    );
    methods_say("pub fn _a(&mut self) {}", "begins with a lower-case letter");
    methods_say("pub fn ä(&mut self) {}", "begins with a lower-case letter");
    let long = format!("pub fn {}(&mut self) {{}}", "a".repeat(65));
    methods_say(&long, "at most 64 characters");
    for reserved in ["memory", "memcpy", "new", "instantiate"] {
        methods_say(&format!("pub fn {reserved}(&mut self) {{}}"), "reserved");
    }
}

#[test]
fn arguments_and_results_can_be_sent() {
    methods_say("pub fn a(&mut self, b: &str) {}", "`String` for `&str`");
    methods_say("pub fn a(&mut self, (b, c): (u8, u8)) {}", "has a name");
    methods_say("pub fn a(&mut self) -> &str {}", "no reference");
    methods_say("pub fn a<T>(&mut self, b: T) {}", "no generics");
    methods_say("pub async fn a(&mut self) {}", "not `async`");
    methods_say("pub unsafe fn a(&mut self) {}", "not `unsafe`");
    let args: String = (0..13).map(|i| format!(", a{i}: u8")).collect();
    methods_say(
        &format!("pub fn a(&mut self{args}) {{}}"),
        "at most 12 arguments",
    );
}

#[test]
fn interfaces_consist_of_signatures() {
    for (item, says) in [
        ("trait A<T> {}", "no generics"),
        ("trait A { const B: u8; }", "consists of methods"),
        ("trait A { fn a(&mut self) {} }", "no bodies"),
        (
            "trait A { #[init] fn a(&mut self); }",
            "not in an interface",
        ),
        ("trait A { fn a(&self); }", "is marked `#[view]`"),
    ] {
        let error = interface::expand(parse_str(item).unwrap()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let own = "mod a { #[storage] struct A; #[interface] impl A {} }";
    contract_says(own, "for `impl Interface for Storage`");
    let init =
        "mod a { #[storage] struct A; #[interface] impl B for A { #[init] fn a(&mut self) {} } }";
    contract_says(init, "not part of an interface");
}

#[test]
fn types_that_cannot_be_described_are_refused() {
    for (item, says) in [
        ("struct A<T>(T);", "no generic types"),
        ("union A { a: u8 }", "make it a struct or an enum"),
        ("enum A { B = 1 }", "numbered in their order"),
    ] {
        let error = data::expand(&parse_str(item).unwrap()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let variants = |count| {
        let variants: String = (0..count).map(|i| format!("V{i},")).collect();
        parse_str(&format!("enum A {{ {variants} }}")).unwrap()
    };
    assert!(data::expand(&variants(256)).is_ok());
    assert!(data::expand(&variants(257)).is_err());
    assert!(error::expand(&variants(32)).is_ok());
    let error = error::expand(&variants(33)).unwrap_err().to_string();
    assert!(error.contains("at most 32 variants"), "{error}");
}

#[test]
fn errors_and_events_have_their_forms() {
    for (item, says) in [
        ("struct A;", "an error is an enum"),
        ("enum A { #[from] B }", "one field without a name"),
        ("enum A { #[from] B(u8, u8) }", "one field without a name"),
        ("enum A { #[from] B { b: u8 } }", "one field without a name"),
        ("enum A { B(#[from] u8) }", "before the variant"),
        (r#"enum A { #[error("a")] #[error("b")] B }"#, "twice"),
    ] {
        let error = error::expand(&parse_str(item).unwrap()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    for (item, says) in [
        ("enum A {}", "an event is a struct"),
        ("struct A(u8);", "have names"),
        ("struct A<T> { a: T }", "no generic types"),
        (
            "struct A { #[topic] a: u8, #[topic] b: u8, #[topic] c: u8, #[topic] d: u8 }",
            "at most 3 fields",
        ),
    ] {
        let error = event::expand(&parse_str(item).unwrap()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}
