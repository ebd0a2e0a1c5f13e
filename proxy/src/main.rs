//! serin
fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|a| a == "--version") {
        return std::process::ExitCode::SUCCESS;
    }
    serin::cli::serve::serve(std::path::Path::new(args.last().expect("config")), "info,access=off", Default::default())
}
