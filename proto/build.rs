//! Compiles the `.proto` files in pure Rust (protox), so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    const FILES: [&str; 7] = ["ingest", "intake", "window", "control", "anomaly", "alert", "rule"];
    let files: Vec<String> = FILES.iter().map(|name| format!("spikewatch/v1/{name}.proto")).collect();
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
