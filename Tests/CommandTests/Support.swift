// What the tests of the command line share: a resolver without a network, and parsing as the command does it.

import ArgumentParser
import Syscalls
import SystemPackage

@testable import holdfast

func ipv4(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, port: UInt16) -> SocketAddress {
  .ipv4(bytes: [a, b, c, d], port: port)
}

func loopback4(_ port: UInt16) -> SocketAddress { ipv4(127, 0, 0, 1, port: port) }

func loopback6(_ port: UInt16) -> SocketAddress {
  .ipv6(bytes: [UInt8](repeating: 0, count: 15) + [1], port: port, scope: 0)
}

/// A resolver that knows these hosts and no others.
func fakeResolver(_ host: String, _ port: UInt16) throws(Errno) -> [SocketAddress] {
  switch host {
  case "127.0.0.1": return [loopback4(port)]
  case "::1": return [loopback6(port)]
  case "localhost": return [loopback4(port), loopback6(port)]
  case "0.0.0.0": return [ipv4(0, 0, 0, 0, port: port)]
  case "192.0.2.7", "files.example": return [ipv4(192, 0, 2, 7, port: port)]
  case "half.example": return [loopback4(port), ipv4(192, 0, 2, 7, port: port)]
  case "slow.example": throw .timedOut
  default: throw .noRouteToHost
  }
}

let rootDirectories = RuntimeDirectories(isRoot: true)

/// The plan of `holdfast serve` with these arguments.
func plan(_ arguments: String..., directories: RuntimeDirectories = rootDirectories) throws -> ServePlan {
  try ServeCommand.parse(arguments).plan(resolve: fakeResolver, directories: directories)
}

func usage(_ sentence: String) -> CommandFailure { CommandFailure(.usage, sentence) }
