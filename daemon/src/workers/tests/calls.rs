//! What calls get back.

use rhd_protocol::error::ErrorKind;
use serde_json::json;

use super::*;

#[tokio::test]
async fn a_function_runs_and_its_code_is_loaded_once() {
    let room = Room::new().await;
    let unit = room
        .code("print('loading')\ndef add(a, b):\n    print('adding')\n    return a + b\n", "add");
    let first = room.call(&unit, json!([1, 2])).await;
    assert_eq!(first.logs, "loading\nadding\n");
    assert_eq!(first.value(), 3);
    for _ in 0..20 {
        let again = room.call(&unit, json!([3, 4])).await;
        assert_eq!((again.logs.as_str(), again.end.unwrap().unwrap()), ("adding\n", json!(7)));
    }
}
