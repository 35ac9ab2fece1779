//! The binary: hands the command line to `app` and ends with its exit code.

fn main() -> std::process::ExitCode {
    mqtt_kafka_proxy::app::main()
}
