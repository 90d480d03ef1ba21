//! Two sides must agree on the type id, which an older and a newer version of a struct share.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use capnproto_shm_transport::{CapnpChannel, Config, OpenError, Transport};
use common::{LONG, unique};
use schemas::blob_capnp::blob;
use schemas::order_v1_capnp::order as old_order;
use schemas::order_v2_capnp::order as new_order;
use schemas::tree_capnp::tree;

fn small() -> Config {
    Config::new().slot_size(64).slot_count(64)
}

#[test]
fn older_and_newer_versions_of_a_struct_understand_each_other() {
    let name = unique("evolution");
    let mut old = CapnpChannel::<old_order::Owned>::create(&name, &small()).unwrap();
    let mut new = CapnpChannel::<new_order::Owned>::open(&name, LONG).unwrap();

    let fill = |mut order: old_order::Builder<'_>| {
        order.set_id(1);
        order.set_symbol("OLD");
        Ok(())
    };
    old.send(fill).unwrap();
    let message = new.try_recv().unwrap();
    let order = message.get().unwrap();
    assert_eq!((order.get_id(), order.get_symbol().unwrap().to_str()), (1, Ok("OLD")));
    assert_eq!((order.get_amount(), order.has_tags()), (100, false));
    drop(message);

    let fill = |mut order: new_order::Builder<'_>| {
        order.set_id(2);
        order.set_symbol("NEW");
        order.set_amount(5);
        order.init_tags(1).set(0, "urgent");
        Ok(())
    };
    new.send(fill).unwrap();
    let message = old.try_recv().unwrap();
    let order = message.get().unwrap();
    assert_eq!((order.get_id(), order.get_symbol().unwrap().to_str()), (2, Ok("NEW")));
}

#[test]
fn another_type_in_either_direction_is_refused_at_open() {
    let name = unique("types");
    let _a = CapnpChannel::<blob::Owned, tree::Owned>::create(&name, &small()).unwrap();
    let direction = |error| match error {
        OpenError::Type { direction, .. } => direction,
        other => panic!("{other}"),
    };
    let open = CapnpChannel::<tree::Owned, new_order::Owned>::open(&name, LONG);
    assert_eq!(direction(open.unwrap_err()), "receiving");
    let open = CapnpChannel::<blob::Owned>::open(&name, LONG);
    assert_eq!(direction(open.unwrap_err()), "sending");
    CapnpChannel::<tree::Owned, blob::Owned>::open(&name, LONG).unwrap();
}

#[test]
fn raw_bytes_are_no_messages() {
    let name = unique("raw");
    let _a = Transport::create(&name, &small()).unwrap();
    assert!(matches!(CapnpChannel::<blob::Owned>::open(&name, LONG), Err(OpenError::Type { .. })));
}
