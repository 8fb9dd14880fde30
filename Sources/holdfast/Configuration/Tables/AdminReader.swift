// The table [admin].

extension ConfigurationReader {
  func readAdmin(_ table: inout TableReader, _ plan: inout ServePlan) {
    let (text, line) = table.string("socket") ?? ("auto", table.line)
    switch text {
    case "auto": plan.takeOrdersByDefault(directories)
    case "": plan.admin = AdminPlan()
    default:
      guard text.hasPrefix("/") else {
        return table.mistake(
          line, "\"socket\": \"\(text)\" is no absolute path; write one, \"auto\", or \"\" for none")
      }
      do throws(AddressMistake) { plan.admin = AdminPlan(socket: try unixSocketPath(text)) } catch {
        table.mistake(line, "\"socket\": \(error.clause)")
      }
    }
  }
}
