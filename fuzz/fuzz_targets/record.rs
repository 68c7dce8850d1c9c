//! A record of any bytes, as no reader would write it. It decodes to an entry all the same, and
//! that entry survives being passed on.
#![no_main]

use going::child::plan::encode;
use going::model::entry::{Entry, Record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| {
    let mut record = Record::default();
    for (place, byte) in record.as_flattened_mut().iter_mut().zip(raw) {
        *place = *byte;
    }
    let entry = Entry::decode(record);
    assert_eq!(Entry::decode(encode(&entry)), entry);
});
