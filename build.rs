//! Links going(8) with the linker script `.cargo/layout.ld`; other programs and tests are linked
//! without.

fn main() {
    println!("cargo::rerun-if-changed=.cargo/layout.ld");
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-link-arg-bin=going=-T{root}/.cargo/layout.ld");
}
