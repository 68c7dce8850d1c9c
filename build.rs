//! Has going(8) linked as `.cargo/layout.ld` says; the other programs and the tests are not.

fn main() {
    println!("cargo::rerun-if-changed=.cargo/layout.ld");
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-link-arg-bin=going=-T{root}/.cargo/layout.ld");
}
