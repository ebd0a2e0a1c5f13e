<%@ page contentType="text/plain; charset=UTF-8" session="false" import="java.sql.*, javax.naming.*, javax.sql.*" %><%
// Which database its own is.
DataSource source = (DataSource) new InitialContext().lookup("java:comp/env/jdbc/itrust");
try (Connection connection = source.getConnection();
        ResultSet rows = connection.createStatement().executeQuery("SELECT DATABASE()")) {
    rows.next();
    out.print(rows.getString(1));
}
%>
