//! Records of any bytes, as a reader might send them: the table takes them or leaves them, and its
//! pool stays whole.
#![no_main]

use going::model::table::{POOL_MAX, Table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| {
    let mut table = Box::new(Table::new());
    for record in raw.split(|&byte| byte == b'\xff') {
        let _taken = table.apply(record, 0);
        while table.forget_one().is_some() {}
    }
    let len: usize = table.slots.iter().map(|slot| slot.text(&table.pool).len()).sum();
    assert!(len == table.pool.len() && len <= POOL_MAX);
});
