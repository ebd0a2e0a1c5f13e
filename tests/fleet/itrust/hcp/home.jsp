<%@ page contentType="text/html; charset=UTF-8" %><%
    if (session.getAttribute("user") == null) {
        pageContext.forward("/login.jsp");
        return;
    }
%><!DOCTYPE html>
<html>
<head><title>iTrust - HCP Home</title></head>
<body>Welcome.</body>
</html>
