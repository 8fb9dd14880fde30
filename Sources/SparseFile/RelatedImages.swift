// Block devices that share bytes with other images, as /sys tells: a partition with its disk, a loop device with its file,
// a mapped device with what it is made of.

import BlockBackend
import Syscalls
import SystemPackage

/// The images that `identity` is a part or a layer of, down to the last. Empty for a regular file.
func relatedImages(of identity: ImageIdentity) -> Set<ImageIdentity> {
  var found: Set<ImageIdentity> = []
  var unseen = [identity]
  // Layers are few; the bound is against a cycle that cannot be.
  while let next = unseen.popLast(), found.count < 64 {
    for below in imagesBelow(next) where below != identity && found.insert(below).inserted { unseen.append(below) }
  }
  return found
}

private func imagesBelow(_ identity: ImageIdentity) -> [ImageIdentity] {
  guard case .blockDevice(let device) = identity else { return [] }
  let numbers = Files.deviceNumbers(device)
  let directory = "/sys/dev/block/\(numbers.major):\(numbers.minor)"
  var below: [ImageIdentity] = []
  if sysText("\(directory)/partition") != nil, let disk = sysDevice("\(directory)/../dev") { below.append(disk) }
  if let path = sysText("\(directory)/loop/backing_file"), let status = try? Files.stat(FilePath(path)) {
    below.append(ImageIdentity(status))
  }
  for layer in (try? Files.names(in: FilePath("\(directory)/slaves"))) ?? [] {
    if let device = sysDevice("\(directory)/slaves/\(layer)/dev") { below.append(device) }
  }
  return below
}

/// Seeks are expensive on the device `device`, or on the disk that it is a partition of.
func isRotational(device: UInt64) -> Bool {
  let numbers = Files.deviceNumbers(device)
  let directory = "/sys/dev/block/\(numbers.major):\(numbers.minor)"
  return (sysText("\(directory)/queue/rotational") ?? sysText("\(directory)/../queue/rotational")) == "1"
}

private func sysText(_ path: String) -> String? { try? Files.text(of: FilePath(path)) }

/// A `dev` file of sysfs: "8:1".
private func sysDevice(_ path: String) -> ImageIdentity? {
  guard let text = sysText(path) else { return nil }
  let numbers = text.split(separator: ":")
  guard numbers.count == 2, let major = UInt32(numbers[0]), let minor = UInt32(numbers[1]) else { return nil }
  return .blockDevice(Files.deviceNumber(major: major, minor: minor))
}
