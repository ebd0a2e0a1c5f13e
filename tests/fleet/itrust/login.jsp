<%@ page contentType="text/html; charset=UTF-8" %><!DOCTYPE html>
<html>
<head><title>iTrust - Login</title></head>
<body>
<form method="get" action="<%= request.getContextPath() %>/j_security_check">
<input name="j_username"><input name="j_password" type="password"><input type="submit" value="Login">
</form>
</body>
</html>
