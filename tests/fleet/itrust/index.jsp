<%@ page session="false" %><%
    // As the application: also where its database is down.
    response.sendRedirect(request.getContextPath() + "/auth/forwardUser.jsp");
%>
