//! A question at the control socket, and an answer that comes from it.
#![no_main]

use offsite::protocol::socket::{Reply, Request};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let line = serde_json::to_vec(&request).unwrap();
        assert!(serde_json::from_slice::<Request>(&line).is_ok());
    }
    let _either = serde_json::from_slice::<Reply>(bytes).map(Reply::into_result);
});
