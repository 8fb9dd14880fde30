// The table [server].

extension ConfigurationReader {
  func readServer(_ server: inout TableReader, _ plan: inout ServePlan) {
    plan.plaintextPermission = "allow-plaintext = true"
    plan.allowsPlaintext = server.boolean("allow-plaintext") ?? false
    let addresses = AddressReader(
      resolve: resolve, allowsPlaintext: plan.allowsPlaintext, permission: plan.plaintextPermission)
    for (text, line) in server.strings("listen") ?? [] {
      do throws(AddressMistake) {
        for address in try addresses.uri(text) {
          plan.listeners.append(address)
          if firstDuplicate(plan.listeners) != nil {
            plan.listeners.removeLast()
            server.mistake(line, "\"listen\": \(address) is given twice")
          }
        }
      } catch {
        server.mistake(line, "\"listen\": \(error.clause)")
      }
    }
    if plan.listeners.isEmpty {
      do throws(AddressMistake) { try plan.listenByDefault(directories) } catch {
        server.mistake(server.line, "no \"listen\": \(error.clause)")
      }
    }
    if let (name, line) = server.string("default-export"), !name.isEmpty {
      plan.defaultExport = name
      if !exportNames.contains(name) {
        let guess = closest(to: name, in: exportNames).map { "; did you mean \"\($0)\"?" } ?? ""
        server.mistake(line, "\"default-export\": there is no export \"\(name)\"\(guess)")
      }
    }
    if let (text, line) = server.string("socket-mode") {
      if let mode = SocketMode(parsing: text) {
        plan.socketMode = mode
      } else {
        server.mistake(line, "\"socket-mode\": \(SocketMode.mistake(text))")
      }
    }
    plan.connectionsMax = server.integer("max-connections", in: 1...65_536) ?? plan.connectionsMax
    plan.spins = server.boolean("spin") ?? plan.spins
  }
}
