// `holdfast map`: the extents of an image, by the very call that answers clients that ask for block status.

import ArgumentParser
import BlockBackend
import SparseFile
import SystemPackage

struct MapCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "map",
    abstract: "Print which parts of an image hold data.",
    discussion: """
      One line per extent: offset and length in bytes, and what a client would be told: data, hole (reads as zeroes, has \
      no storage) or zero (reads as zeroes, has storage).

      Examples:
        holdfast map disk.img
        holdfast map --json disk.img
      """)

  @Flag(help: "Print JSON.")
  var json = false

  @Argument(help: ArgumentHelp("A regular file or block device.", valueName: "image"))
  var image: String

  func run() throws {
    let backend = try openImage(image, OpenOptions(readOnly: true))
    var output = MapOutput(image: image, sizeBytes: backend.geometry.sizeBytes, isJSON: json)
    try writeToStandardOutput(output.head)
    try forEachExtent(of: backend, named: image) { (offset, extent) throws(CommandFailure) in
      try writeToStandardOutput(output.line(offset, extent))
    }
    try writeToStandardOutput(output.tail)
  }
}

/// Calls `body` for every extent from the start to the end; neighbours of one kind come as one.
func forEachExtent(
  of backend: some BlockBackend, named name: String,
  _ body: (_ offset: UInt64, _ extent: Extent) throws(CommandFailure) -> Void
) throws(CommandFailure) {
  let sizeBytes = backend.geometry.sizeBytes
  var offset: UInt64 = 0
  var pending: (offset: UInt64, extent: Extent)?
  while offset < sizeBytes {
    let extents: [Extent]
    do throws(BackendError) {
      extents = try backend.extents(of: offset..<sizeBytes, extentsMax: 4096)
    } catch {
      throw CommandFailure(
        .ioError, "cannot read the layout of \(name) at byte \(error.offset ?? offset): \(reason(error.errno))")
    }
    precondition(!extents.isEmpty, "a backend tells at least one extent of a range that is not empty")
    for extent in extents {
      if let last = pending, last.extent.kind == extent.kind {
        pending?.extent.lengthBytes += extent.lengthBytes
      } else {
        if let last = pending { try body(last.offset, last.extent) }
        pending = (offset, extent)
      }
      offset += extent.lengthBytes
    }
  }
  if let last = pending { try body(last.offset, last.extent) }
}
