// Where images can be: each place makes fresh ones and cleans up behind itself.

import Foundation
import SystemPackage

/// A directory of its own under /tmp or elsewhere, removed at the end.
func withDirectory<Result>(in parent: String = "/tmp", _ body: (FilePath) throws -> Result) throws -> Result {
  let path = "\(parent)/holdfast-tests.\(getpid()).\(UInt32.random(in: 0 ... .max))"
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try body(FilePath(path))
}

/// A sparse file of `sizeBytes`, in a directory of its own.
func withFile<Result>(
  in parent: String = "/tmp", sizeBytes: UInt64, _ body: (FilePath) throws -> Result
) throws -> Result {
  try withDirectory(in: parent) { directory in
    let path = directory.appending("image")
    try makeSparse(path, sizeBytes)
    return try body(path)
  }
}

func makeSparse(_ path: FilePath, _ sizeBytes: UInt64) throws {
  guard FileManager.default.createFile(atPath: path.string, contents: nil) else { throw Missing("cannot make \(path)") }
  try setSize(path, sizeBytes)
}

func setSize(_ path: FilePath, _ sizeBytes: UInt64) throws {
  guard unsafe truncate(path.string, off_t(sizeBytes)) == 0 else { throw Missing("cannot truncate \(path)") }
}

/// A loop device of `sizeBytes`.
func withLoopDevice<Result>(
  sizeBytes: UInt64, _ flags: [String] = [], _ body: (_ device: FilePath, _ file: FilePath) throws -> Result
) throws -> Result {
  try withFile(sizeBytes: sizeBytes) { file in
    let (status, device) = try output("losetup", flags + ["--find", "--show", "--partscan", file.string])
    guard status == 0 else { throw Missing("losetup: \(device)") }
    defer { _ = try? run("losetup", "--detach", device) }
    return try body(FilePath(device), file)
  }
}

/// A file system of a kind, mounted from a file.
func withMount<Result>(_ kind: String, _ body: (FilePath) throws -> Result) throws -> Result {
  try withDirectory { directory in
    let file = directory.appending("fs.img")
    try makeSparse(file, 400 << 20)
    try run("mkfs.\(kind)", "-q", file.string)
    let mountPoint = directory.appending("mnt")
    try FileManager.default.createDirectory(atPath: mountPoint.string, withIntermediateDirectories: false)
    try run("mount", "-o", "loop", file.string, mountPoint.string)
    defer { _ = try? run("umount", mountPoint.string) }
    return try body(mountPoint)
  }
}

/// Something that the test needs is not there, or did not work.
struct Missing: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

/// Runs a program to its end and returns its output.
@discardableResult
func run(_ program: String, _ arguments: String...) throws -> String {
  let (status, text) = try output(program, arguments)
  guard status == 0 else { throw Missing("\(program) \(arguments.joined(separator: " ")): status \(status): \(text)") }
  return text
}

func output(_ program: String, _ arguments: [String]) throws -> (status: Int32, text: String) {
  guard let path = find(program) else { throw Missing("no program \(program)") }
  let process = Process()
  process.executableURL = URL(fileURLWithPath: path)
  process.arguments = arguments
  let pipe = Pipe()
  process.standardOutput = pipe
  process.standardError = pipe
  try process.run()
  let data = pipe.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  let text = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  return (process.terminationStatus, text)
}

func find(_ program: String) -> String? {
  ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map { "\($0)/\(program)" }
    .first { FileManager.default.isExecutableFile(atPath: $0) }
}

/// Loop devices and mounts need root and the loop driver.
let canMount = getuid() == 0 && FileManager.default.fileExists(atPath: "/dev/loop-control")
let whyNoMount = "needs root and /dev/loop-control"
func has(_ program: String) -> Bool { find(program) != nil }

/// Addresses without memory behind them, for calls that are recorded and not performed.
func withAddresses(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Void) throws {
  let memory = unsafe mmap(nil, count, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
  guard let memory = unsafe memory, unsafe memory != MAP_FAILED else { throw Missing("no \(count) addresses") }
  defer { _ = unsafe munmap(memory, count) }
  try unsafe body(UnsafeMutableRawBufferPointer(start: memory, count: count))
}
