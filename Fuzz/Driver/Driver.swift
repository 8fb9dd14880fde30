// holdfast-fuzz TARGET [OPTIONS OF LIBFUZZER] [FOLDERS]: hands what libFuzzer makes to a target.

import FuzzTargets
import Glibc

@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
  _ count: UnsafeMutablePointer<CInt>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
  _ one: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

private let target: @Sendable ([UInt8]) throws -> Void = {
  let name = CommandLine.arguments.dropFirst().first ?? ""
  guard let target = fuzzTargets.first(where: { $0.name == name }) else {
    fatalError("the first argument is one of \(fuzzTargets.map(\.name)), not '\(name)'")
  }
  return target.run
}()

/// What SwiftPM calls `main` of this product; libFuzzer's own is not linked.
@_cdecl("holdfast_fuzz_main")
public func main(
  _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
) -> CInt {
  guard count > 1 else { fatalError("the first argument is one of \(fuzzTargets.map(\.name))") }
  // Looked up before its name is gone.
  _ = target
  // Its place is that of the program's name, which libFuzzer skips.
  var rest = arguments + 1
  rest[0] = arguments[0]
  var restCount = count - 1
  return runFuzzer(&restCount, &rest) { bytes, count in
    do { try target(Array(UnsafeBufferPointer(start: bytes, count: count))) } catch { fatalError("finding: \(error)") }
    return 0
  }
}
