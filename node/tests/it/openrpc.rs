//! The OpenRPC document against a node that it describes.

use crate::support::*;
use jsonrpsee::core::client::{ClientT, Error as ClientError};
use jsonrpsee::core::params::{ArrayParams, ObjectParams};
use jsonrpsee::http_client::HttpClient;
use serde_json::{Map, Value, json};

/// Whether `value` is what `schema` says, and an object has nothing that is not there.
fn fits(value: &Value, schema: &Value, document: &Value) -> bool {
    let of = |key: &str| schema[key].as_array().map(Vec::as_slice);
    let is = |kind: &Value| match kind.as_str() {
        Some("null") => value.is_null(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    };
    if let Some(reference) = schema["$ref"].as_str() {
        let found = document.pointer(reference.trim_start_matches('#')).unwrap();
        return fits(value, found, document);
    }
    let kinds = of("type").unwrap_or(std::slice::from_ref(&schema["type"]));
    let any = of("anyOf").or(of("oneOf"));
    let all = of("allOf").unwrap_or_default();
    let known = schema["properties"].as_object();
    let given = value.as_object();
    (schema["type"].is_null() || kinds.iter().any(is))
        && any.is_none_or(|any| any.iter().any(|each| fits(value, each, document)))
        && all.iter().all(|each| fits(value, each, document))
        && of("enum").is_none_or(|values| values.contains(value))
        && schema.get("const").is_none_or(|only| only == value)
        && of("required").unwrap_or_default().iter().all(|name| {
            let name = name.as_str().unwrap();
            given.is_none_or(|given| given.contains_key(name))
        })
        && known.zip(given).is_none_or(|(known, given)| {
            given.iter().all(|(name, value)| {
                known
                    .get(name)
                    .is_some_and(|schema| fits(value, schema, document))
            })
        })
        && value.as_array().is_none_or(|items| {
            let schema = &schema["items"];
            schema.is_null() || items.iter().all(|item| fits(item, schema, document))
        })
}

async fn ask(
    client: &HttpClient,
    method: &str,
    params: &Map<String, Value>,
) -> Result<Value, ClientError> {
    let mut named = ObjectParams::new();
    for (name, value) in params {
        named.insert(name, value).unwrap();
    }
    client.request(method, named).await
}

#[tokio::test]
async fn methods_take_and_return_what_the_document_says() {
    let (node, client) = node().await;
    let alice = key("alice");
    let contract = deployed(&client, &alice, 0).await;
    let put = execute(&client, &call(&alice, 1, contract, "put", b"x")).await;
    let document: Value = client
        .request("rpc.discover", ArrayParams::new())
        .await
        .unwrap();
    let values = json!({
        "transaction": hex_of(&call(&alice, 2, contract, "put", b"y")), "wait_until": "final", "timeout_ms": 60_000, "trace": true,
        "transactions": [hex_of(&call(&alice, 2, contract, "put", b"y"))],
        "hash": put.transaction, "address": alice.address(), "account": alice.address(), "caller": alice.address(), "contract": contract,
        "method": "get", "input": "", "fuel_limit": 1_000_000, "height": 1, "topic": "ab".repeat(32), "from_height": 0, "to_height": 9,
        "after": "0-0-0", "limit": 5, "key": format!("61{}", alice.address()),
        "functions": true, "seconds": 1, "interval_us": 100,
    });
    let traced: Value = {
        let params = Map::from_iter([("hash".to_owned(), json!(put.transaction))]);
        ask(&client, "trace_transaction", &params).await.unwrap()
    };
    let mut asked = 0;
    let methods = document["methods"].as_array().unwrap();
    // What changes the state comes last.
    for method in methods.iter().rev() {
        let name = method["name"].as_str().unwrap();
        if name.contains("subscribe") {
            continue;
        }
        let params = method["params"].as_array().unwrap();
        let mut given = Map::new();
        for param in params {
            let param = param["name"].as_str().unwrap();
            given.insert(param.to_owned(), values[param].clone());
        }
        if name == "get_code" {
            given["hash"] = traced["call"]["code"].clone();
        }
        let params = params.iter().map(|param| {
            let required = param["required"].as_bool().unwrap();
            (param["name"].as_str().unwrap(), required)
        });
        for (param, required) in params {
            // A name that the method does not know would do no harm.
            let mut wrong = given.clone();
            wrong[param] = json!({});
            let (code, _) = refusal(ask(&client, name, &wrong).await);
            assert_eq!(code, -32602, "{name} does not take {param}");
            if required {
                wrong.remove(param);
                let (code, _) = refusal(ask(&client, name, &wrong).await);
                assert_eq!(code, -32602, "{name} does without {param}");
            }
        }
        let answer = ask(&client, name, &given).await;
        let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
        let schema = &method["result"]["schema"];
        assert!(
            fits(&answer, schema, &document),
            "{name} answers {answer:#}, which is not {schema:#}"
        );
        asked += 1;
    }
    assert!(asked > 10);
    // A refusal inside of an answer, too.
    let mut late = Map::new();
    late.insert(
        "transaction".to_owned(),
        hex_of(&call(&alice, 0, contract, "put", b"z")).into(),
    );
    let refused = ask(&client, "submit_transaction", &late).await.unwrap();
    assert_eq!(refused["error"]["data"]["kind"], "nonce_too_low");
    let schema = json!({ "$ref": "#/components/schemas/Submitted" });
    assert!(fits(&refused, &schema, &document), "{refused:#}");
    let mut wrong = refused.clone();
    wrong["error"]["data"]["got"] = "0".into();
    assert!(!fits(&wrong, &schema, &document));
    node.stop().await.unwrap();
}
