//! The store, on every database that it runs on.

mod opening;
mod place;
mod suite;
mod takeover;
mod term;

use place::Place;

#[tokio::test]
async fn the_store_in_plain_maps() {
    suite::all(&Place::Maps).await;
}

#[tokio::test]
async fn the_store_in_memory() {
    suite::all(&Place::memory()).await;
}

#[tokio::test]
async fn the_store_in_a_file() {
    suite::all(&Place::files()).await;
}

#[tokio::test]
async fn the_store_on_postgresql() {
    let Some(place) = Place::postgres(&[("fsync", "off")]) else { return };
    suite::all(&place).await;
}
