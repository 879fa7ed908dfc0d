//! Compiles the protos with protox: no protoc needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["common", "hsm", "mgs", "mds", "oss", "record"]
        .map(|name| format!("nacre/v1/{name}.proto"));
    let descriptors = protox::compile(&files, ["proto"])?;
    // `bytes` fields as Bytes: file data is never copied by the codec.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
