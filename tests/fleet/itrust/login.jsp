<%@ page contentType="text/html; charset=UTF-8"
         import="java.sql.*, javax.naming.InitialContext, javax.servlet.http.HttpServletResponse, javax.sql.DataSource" %><%!
    private boolean isUp() throws Exception {
        DataSource source = (DataSource) new InitialContext().lookup("java:comp/env/jdbc/itrust");
        try (Connection connection = source.getConnection(); Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(2);
            return statement.execute("SELECT 1");
        } catch (SQLException lost) {
            return false;
        }
    }
%><%
    // As the application: without its database nobody can log in, and each visit of this page has a session.
    if (!isUp()) {
        response.setStatus(HttpServletResponse.SC_SERVICE_UNAVAILABLE);
        out.print("iTrust is Down");
        return;
    }
%><!DOCTYPE html>
<html>
<head><title>iTrust - Login</title></head>
<body>
<form method="get" action="<%= request.getContextPath() %>/j_security_check">
<input name="j_username"><input name="j_password" type="password"><input type="submit" value="Login">
</form>
</body>
</html>
