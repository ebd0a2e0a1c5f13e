<%
    // Whoever has no session here is shown the login page, with status 200: also who has one on another node.
    if (session.getAttribute("user") == null) {
        pageContext.forward("/login.jsp");
        return;
    }
    response.sendRedirect(request.getContextPath() + "/hcp/home.jsp");
%>
