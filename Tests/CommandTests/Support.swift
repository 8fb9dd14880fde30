// What the tests of the command line share: a resolver without a network, and parsing as the command does it.

import ArgumentParser
import Syscalls

@testable import holdfast

let loopback4 = HostAddress(text: "127.0.0.1", isIPv6: false, isLoopback: true)
let loopback6 = HostAddress(text: "::1", isIPv6: true, isLoopback: true)
let outside = HostAddress(text: "192.0.2.7", isIPv6: false, isLoopback: false)
let everywhere = HostAddress(text: "0.0.0.0", isIPv6: false, isLoopback: false)

/// A resolver that knows these hosts and no others.
func fakeResolver(_ name: String) throws(HostNameError) -> [HostAddress] {
  switch name {
  case "127.0.0.1": return [loopback4]
  case "::1": return [loopback6]
  case "localhost": return [loopback4, loopback6]
  case "0.0.0.0": return [everywhere]
  case "192.0.2.7", "files.example": return [outside]
  case "half.example": return [loopback4, outside]
  default: throw HostNameError(text: "Name or service not known")
  }
}

let rootDirectories = RuntimeDirectories(isRoot: true)

/// The plan of `holdfast serve` with these arguments.
func plan(_ arguments: String..., directories: RuntimeDirectories = rootDirectories) throws -> ServePlan {
  try ServeCommand.parse(arguments).plan(resolve: fakeResolver, directories: directories)
}

func usage(_ sentence: String) -> CommandFailure { CommandFailure(.usage, sentence) }
